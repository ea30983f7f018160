"""Where state lives, what is said when it cannot, and where the folders lie that come with the code."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

import reproduce
from reproduce.errors import OfeError
from reproduce.store.atomic import write_text
from reproduce.store.home import (
    ensure_home,
    expanded,
    explain_os_errors,
    lend_home,
    ofe_home,
    shared_folder,
    stated,
    writing_output,
)
from reproduce.store.runs import RunFolder


def test_ofe_home_follows_the_environment_and_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFE_HOME", "state")
    assert ofe_home() == tmp_path / "state"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OFE_HOME", "~/mine")
    assert ofe_home() == tmp_path / "mine"


@pytest.mark.parametrize("value", [None, ""])
def test_without_the_variable_it_is_the_platforms_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("OFE_HOME", raising=False)
    if value is not None:
        monkeypatch.setenv("OFE_HOME", value)
    home = ofe_home()
    assert tmp_path in home.parents
    assert "ofe" in home.parts
    assert not home.exists(), "asking for the place must not make it"


def test_ensure_home_creates_the_folder_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OFE_HOME", str(tmp_path / "a" / "b"))
    assert ensure_home() == ensure_home() == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("below", ["", "inside"])
def test_a_file_in_the_way_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("I am no folder")
    monkeypatch.setenv("OFE_HOME", str(tmp_path / "file" / below))
    with pytest.raises(OfeError, match="file") as caught:
        ensure_home()
    assert "OFE_HOME" in str(caught.value.hint)


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES, errno.ENOENT])
def test_what_the_disk_refuses_becomes_advice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setenv("OFE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OfeError) as caught:
        ensure_home()
    assert str(tmp_path / "home") in caught.value.message
    assert "OFE_HOME" in str(caught.value.hint)


def test_a_folder_that_exists_but_cannot_be_written_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OFE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OfeError, match="no permission"):
        ensure_home()


def test_other_errors_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), explain_os_errors(tmp_path):
        (tmp_path / "missing").read_text()


def test_the_outer_of_two_contexts_names_the_option_and_the_inner_one_the_path(tmp_path: Path) -> None:
    with pytest.raises(OfeError) as caught, explain_os_errors(tmp_path, "--out"), explain_os_errors(tmp_path / "file"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert re.fullmatch(rf"no space is left for {tmp_path / 'file'} \(.+ are free on its disk\)", caught.value.message)
    assert caught.value.hint == "free some space, or set --out to a folder on another disk"


def test_the_folder_of_an_output_is_created_and_an_error_names_the_option(tmp_path: Path) -> None:
    with writing_output(tmp_path / "a" / "b" / "x.csv", "--csv"):
        write_text(tmp_path / "a" / "b" / "x.csv", "1")
    with pytest.raises(OfeError) as caught, writing_output(tmp_path / "a" / "b" / "x.csv" / "y.csv", "--csv"):
        pass
    assert caught.value.hint == "move that file away, or set --csv to another folder"


def test_an_error_about_another_place_keeps_its_words(tmp_path: Path) -> None:
    with pytest.raises(OfeError) as caught, explain_os_errors(tmp_path, "--out"):
        raise OfeError("cannot read a book", hint="take it away") from OSError(errno.EACCES, "no")
    assert (caught.value.message, caught.value.hint) == ("cannot read a book", "take it away")


def test_in_a_clone_the_shared_folders_stand_beside_the_package() -> None:
    root = Path(reproduce.__file__).resolve().parent.parent
    assert shared_folder("experiments") == root / "experiments"
    assert shared_folder("experiments").is_dir()


def test_in_an_installation_they_are_inside_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "reproduce"
    package.mkdir(parents=True)
    (tmp_path / "site-packages" / "figures").mkdir()  # of some other distribution
    monkeypatch.setattr(reproduce, "__file__", str(package / "__init__.py"))
    assert shared_folder("figures") == package / "_shared" / "figures"


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOLCK, "has no locks"),
        (errno.EFBIG, "larger than the limit"),
        (errno.EIO, "the disk reports an error"),
        (errno.ESTALE, "is gone"),
        (errno.ENAMETOOLONG, "too long"),
    ],
)
def test_every_error_of_a_disk_has_words_and_a_way_out(number: int, says: str, tmp_path: Path) -> None:
    with pytest.raises(OfeError, match=says) as caught, explain_os_errors(tmp_path / "there"):
        raise OSError(number, os.strerror(number))
    assert caught.value.hint


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("OFE_HOME")
    monkeypatch.setattr("platformdirs.user_cache_path", nobody)
    with pytest.raises(OfeError, match="no home folder") as caught:
        ofe_home()
    assert caught.value.exit_code == 2
    assert "set OFE_HOME" in str(caught.value.hint)
    monkeypatch.setattr(Path, "expanduser", nobody)
    for read in (lambda: expanded("~/data"), ofe_home):
        monkeypatch.setenv("OFE_HOME", "~/state")
        with pytest.raises(OfeError, match="this user has none") as caught:
            read()
        assert caught.value.exit_code == 2


def test_a_file_system_without_locks_is_told_when_a_run_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(OfeError, match="has no locks") as caught, RunFolder(tmp_path).lock():
        pytest.fail("locked")
    assert "local disk" in str(caught.value.hint)


def test_libraries_are_lent_a_home_where_the_user_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They would make a folder called `~` in the current one, or end with an error of Python."""
    for name in ("HF_HOME", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OFE_HOME", str(tmp_path))
    lend_home()
    assert "HF_HOME" not in os.environ
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    lend_home()
    assert (os.environ["HF_HOME"], os.environ["MPLCONFIGDIR"]) == (
        str(tmp_path / "huggingface"),
        str(tmp_path / "matplotlib"),
    )
    monkeypatch.delenv("HF_HOME")
    monkeypatch.delenv("MPLCONFIGDIR")


def test_a_folder_that_was_removed_meanwhile_is_told(tmp_path: Path) -> None:
    with pytest.raises(OfeError, match="is gone") as caught, explain_os_errors(tmp_path / "gone" / "file"):
        (tmp_path / "gone" / "file").write_text("x")
    assert caught.value.hint


def test_a_full_disk_is_told_with_what_is_needed_and_what_is_free(tmp_path: Path) -> None:
    with pytest.raises(OfeError) as caught, explain_os_errors(tmp_path / "there", needs=3_400_000):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert re.search(r"\(it needs 3\.4 MB, .+ are free on its disk\)$", caught.value.message)


def test_a_path_that_a_run_states_and_is_not_utf8_is_refused_and_a_link_to_it_is_not(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    with pytest.raises(OfeError, match=r"caf\\xe9"):
        stated(str(folder))
    (tmp_path / "link").symlink_to(folder)
    assert stated(str(tmp_path / "link")) == tmp_path / "link"
