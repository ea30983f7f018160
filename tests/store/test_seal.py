"""From a finished training to a folder that outlives us."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reproduce.errors import OfeError
from reproduce.specs.runs import ResolvedRun
from reproduce.store.layout import CHECKED_FILES, LEFTOVERS, LIVE_MOMENTS, LIVE_TRACE, SEALED_FILES
from reproduce.store.runs import RunFolder, Store
from reproduce.store.seal import seal, verify_folder
from reproduce.store.trace import TraceWriter, read_live

PROVENANCE = {"failed": False, "failed_step": None, "substitute": True}

MakeRun = Callable[..., ResolvedRun]
Train = Callable[[Path], None]


@pytest.fixture
def folder(make_run: MakeRun, store: Store, train: Train) -> Path:
    """A run that has been trained and not sealed."""
    path = store.create(make_run()).path
    train(path)
    return path


def checked_bytes(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in CHECKED_FILES}


def test_sealing_keeps_every_value_and_leaves_nothing_else(folder: Path) -> None:
    live = read_live(folder)
    seal(folder, PROVENANCE)
    assert {path.name for path in folder.iterdir()} == set(SEALED_FILES)
    sealed = RunFolder(folder).read_trace()
    assert sealed.equals(live)
    assert {np.isnan(sealed["value"]).sum(), np.isinf(sealed["value"]).sum()} == {3}
    moments = RunFolder(folder).read_moments()
    assert list(moments["layer"][:3]) == ["1", "2", "unembed"]
    np.testing.assert_array_equal(moments["second_moment"].iloc[-1], np.float32([2.0, np.nan, 3.0]))
    assert RunFolder(folder).provenance() == PROVENANCE


def test_equal_traces_seal_to_equal_bytes(
    folder: Path, make_run: MakeRun, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = Store(tmp_path / "elsewhere").create(make_run()).path
    train(twin)
    seal(folder, PROVENANCE | {"seconds": 12.0})
    monkeypatch.setattr("time.time", lambda: 0.0)
    seal(twin, PROVENANCE | {"seconds": 99.0})
    assert checked_bytes(twin) == checked_bytes(folder)
    assert (twin / "SHA256SUMS").read_bytes() == (folder / "SHA256SUMS").read_bytes()


def test_the_order_of_recording_within_a_step_does_not_matter(folder: Path, make_run: MakeRun, tmp_path: Path) -> None:
    twin = Store(tmp_path / "elsewhere").create(make_run()).path
    with TraceWriter(twin) as trace:
        for record in reversed(read_live(folder).to_dict("records")):
            value = {record["layer"]: record["value"]} if record["layer"] else record["value"]
            trace.record(record["step"], record["split"], {record["metric"]: value})
    seal(folder, PROVENANCE)
    seal(twin, PROVENANCE)
    assert (twin / "trace.parquet").read_bytes() == (folder / "trace.parquet").read_bytes()


def test_provenance_must_say_what_claims_ask(folder: Path) -> None:
    with pytest.raises(ValueError, match="failed_step, substitute"):
        seal(folder, {"failed": False})


class Killed(BaseException):
    """The process is gone."""


class Killer:
    """Lets `calls` changes to the disk pass, then kills the process: no later call does anything, clean-up included."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
        self.left = calls
        for name in ("fsync", "replace", "unlink"):
            monkeypatch.setattr(os, name, self._mortal(getattr(os, name)))
        write_bytes = Path.write_bytes

        def half(path: Path, data: bytes) -> None:
            write_bytes(path, data[: len(data) // 2])

        monkeypatch.setattr(Path, "write_bytes", self._mortal(write_bytes, last=half))

    def _mortal(self, function: Callable, last: Callable = lambda *_: None) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            self.left -= 1
            if self.left == -1:
                last(*args)
            if self.left < 0:
                raise Killed
            return function(*args, **kwargs)

        return call


def test_a_kill_at_any_moment_leaves_a_run_that_continues_or_a_sealed_one(
    make_run: MakeRun, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Store(tmp_path / "whole").create(make_run()).path
    train(whole)
    live = {name: (whole / name).read_bytes() for name in (LIVE_TRACE, LIVE_MOMENTS)}
    seal(whole, PROVENANCE)

    states = []
    for calls in itertools.count():
        folder = Store(tmp_path / str(calls)).create(make_run())
        train(folder.path)
        with monkeypatch.context() as patch:
            Killer(patch, calls)
            try:
                seal(folder.path, PROVENANCE)
            except Killed:
                killed = True
            else:
                killed = False
        states.append(folder.state)
        if folder.state == "sealed":
            folder.verify()
        else:
            assert folder.state == "resumable"
            assert {name: (folder.path / name).read_bytes() for name in live} == live
        seal(folder.path, PROVENANCE)
        assert {path.name for path in folder.path.iterdir()} == set(SEALED_FILES)
        assert checked_bytes(folder.path) == checked_bytes(whole)
        if not killed:
            break
    assert states == sorted(states), "once sealed, always sealed"
    assert states.count("resumable") >= 4 * 3
    assert states.count("sealed") >= len(LEFTOVERS)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_refuses_leaves_the_run_resumable(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_args: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", refuse)
        with pytest.raises(OfeError, match=r"trace\.parquet") as caught:
            seal(folder, PROVENANCE)
    assert "OFE_HOME" in str(caught.value.hint)
    assert RunFolder(folder).state == "resumable"
    seal(folder, PROVENANCE)
    verify_folder(folder)


@pytest.mark.parametrize("name", CHECKED_FILES)
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_damage_is_found_and_named(folder: Path, name: str, damage: str) -> None:
    seal(folder, PROVENANCE)
    verify_folder(folder)
    content = bytearray((folder / name).read_bytes())
    (folder / name).unlink()
    if damage == "truncated":
        (folder / name).write_bytes(content[:-7])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
    with pytest.raises(OfeError, match=name) as caught:
        verify_folder(folder)
    assert str(folder) in str(caught.value.hint)


def test_a_damaged_trace_is_never_read_as_if_it_were_sound(folder: Path) -> None:
    seal(folder, PROVENANCE)
    for name, read in (("trace.parquet", "read_trace"), ("moments.parquet", "read_moments")):
        content = bytearray((folder / name).read_bytes())
        content[10] ^= 1
        (folder / name).write_bytes(content)
        with pytest.raises(OfeError, match=name):
            getattr(RunFolder(folder), read)()


@pytest.mark.parametrize("text", ["", "0000  run.yaml\n", "0000  ../../secret\n", "\x00"])
def test_a_list_of_checksums_must_cover_exactly_the_sealed_files(folder: Path, text: str) -> None:
    seal(folder, PROVENANCE)
    (folder / "SHA256SUMS").write_text(text)
    with pytest.raises(OfeError, match="SHA256SUMS does not list"):
        verify_folder(folder)


@pytest.mark.parametrize("text", ["", "[]", '{"failed": false}', None])
def test_damaged_provenance_is_named(folder: Path, text: str | None) -> None:
    seal(folder, PROVENANCE)
    (folder / "provenance.json").unlink()
    if text is not None:
        (folder / "provenance.json").write_text(text)
    with pytest.raises(OfeError, match=r"provenance\.json"):
        verify_folder(folder)


def test_a_run_in_training_is_not_taken_for_a_sealed_one(folder: Path) -> None:
    with pytest.raises(OfeError, match="not a sealed run"):
        verify_folder(folder)


def test_checksums_have_the_form_that_sha256sum_reads(folder: Path) -> None:
    seal(folder, PROVENANCE)
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in CHECKED_FILES]
    assert (folder / "SHA256SUMS").read_text() == "".join(lines)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"checksum"', '"checksun"'),  # one bit, after which it would pass for a file of a version without checksums
        ("1e-05", "1E-05"),  # the same number, and yet not what was written
        ('"seconds"', '"secondr"'),
        ("\n}\n", "\n}"),
    ],
)
def test_every_change_of_provenance_is_found(folder: Path, old: str, new: str) -> None:
    seal(folder, PROVENANCE | {"seconds": 1e-05})
    path = folder / "provenance.json"
    assert RunFolder(folder).provenance()["seconds"] == 1e-05
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(OfeError, match="is not what was sealed"):
        RunFolder(folder).provenance()


def test_an_earlier_version_wrote_no_checksum_of_provenance(folder: Path) -> None:
    seal(folder, PROVENANCE)
    (folder / "provenance.json").write_text(json.dumps(PROVENANCE))
    assert RunFolder(folder).provenance() == PROVENANCE
    (folder / "provenance.json").write_text(json.dumps(PROVENANCE | {"device_hours": 1.0}))
    with pytest.raises(OfeError, match="lacks its checksum"):
        RunFolder(folder).provenance()
