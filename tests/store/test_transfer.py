"""Moving whole run folders."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from reproduce.errors import OfeError
from reproduce.specs.runs import ResolvedRun
from reproduce.store.layout import SEALED_FILES
from reproduce.store.runs import RunFolder
from reproduce.store.transfer import copy_sealed, remove_folder


@pytest.fixture
def sealed(make_sealed: Callable[..., RunFolder], make_run: Callable[..., ResolvedRun]) -> Path:
    return make_sealed(make_run()).path


def test_a_copy_has_the_sealed_files_and_no_other(sealed: Path, tmp_path: Path) -> None:
    (sealed / "lock").touch()
    (sealed / "notes.txt").write_text("mine")
    copy_sealed(sealed, tmp_path / "far" / "away")
    copied = {path.name: path.read_bytes() for path in (tmp_path / "far" / "away").iterdir()}
    assert copied == {name: (sealed / name).read_bytes() for name in SEALED_FILES}
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["away"]


def test_a_copy_that_fails_leaves_what_was_there(sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "target"
    copy_sealed(sealed, target)

    def refuse(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", refuse)
    with pytest.raises(OfeError, match="no space"):
        copy_sealed(sealed, target)
    RunFolder(target).provenance()
    assert {path.name for path in target.iterdir()} == set(SEALED_FILES)
    assert not list(tmp_path.glob(".*"))


def test_a_copy_is_checked_after_it_was_made(sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copyfile = shutil.copyfile

    def lossy(source: Path, target: Path) -> None:
        copyfile(source, target)
        os.truncate(target, target.stat().st_size - 1)

    monkeypatch.setattr(shutil, "copyfile", lossy)
    with pytest.raises(OfeError, match="checksum"):
        copy_sealed(sealed, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_removal_cut_short_leaves_nothing_under_the_name(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remove_folder(sealed)
    assert not sealed.exists()
    remove_folder(sealed)  # there is nothing left to do


def test_a_removed_folder_is_gone_from_the_disk(sealed: Path) -> None:
    remove_folder(sealed)
    assert not list(sealed.parent.iterdir())
