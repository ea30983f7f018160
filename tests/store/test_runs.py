"""Run folders and the store."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from reproduce.errors import OfeError
from reproduce.specs.runs import ResolvedRun
from reproduce.store.layout import CHECKPOINT
from reproduce.store.runs import RunFolder, Store
from reproduce.store.trace import TraceWriter

MakeRun = Callable[..., ResolvedRun]
MakeSealed = Callable[..., RunFolder]
Train = Callable[[Path], None]

HOLD_THE_LOCK = """
import sys
from pathlib import Path
from reproduce.store.runs import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process_training(folder: RunFolder) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD_THE_LOCK, str(folder.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        try:
            yield process
        finally:
            process.kill()


# -- state -----------------------------------------------------------------------------------------


def test_a_run_goes_from_new_through_resumable_to_sealed(
    store: Store, make_run: MakeRun, train: Train, make_sealed: MakeSealed
) -> None:
    folder = store.folder(make_run())
    assert folder.status() == ("new", "never trained")
    assert store.create(make_run()).state == "new"
    TraceWriter(folder.path).close()
    assert folder.state == "resumable"
    assert "starts again" in folder.reason
    train(folder.path)
    assert folder.state == "resumable"
    assert "step 20 of 20" in folder.reason
    assert make_sealed(make_run()).state == "sealed"


def test_a_failed_training_says_why(store: Store, make_run: MakeRun) -> None:
    folder = store.create(make_run())
    folder.write_progress({"state": "failed", "error": "the data could not be read"})
    assert folder.status() == ("failed", "the data could not be read")


def test_a_live_process_is_seen_and_a_killed_one_does_not_block(store: Store, make_run: MakeRun, train: Train) -> None:
    folder = store.create(make_run())
    train(folder.path)
    with another_process_training(folder) as process:
        folder.write_progress({"state": "running", "step": 3, "steps": 20, "pid": process.pid, "host": "here"})
        assert folder.status() == ("running", f"process {process.pid} on here is at step 3 of 20")
        expected = f"another process is training this run: process {process.pid} on here"
        with pytest.raises(OfeError, match=expected), folder.lock():
            pytest.fail("two processes train one run")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert folder.state == "resumable"
        with folder.lock():
            assert folder.state == "running"
    assert folder.state == "resumable"


def test_asking_for_the_state_does_not_stand_in_the_way_of_training(store: Store, make_run: MakeRun) -> None:
    folder = store.create(make_run())
    with folder.lock():
        pass
    for _ in range(3):
        assert folder.state == "new"
        with folder.lock():
            assert folder.state == "running"


def test_state_of_a_folder_that_may_only_be_read(
    store: Store, make_run: MakeRun, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.create(make_run())
    train(folder.path)
    (folder.path / "lock").touch()

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert folder.state == "resumable"
    with pytest.raises(OfeError, match="no permission"), folder.lock():
        pytest.fail("locked")


def test_progress_is_read_back_and_absent_before_training(store: Store, make_run: MakeRun) -> None:
    folder = store.create(make_run())
    assert folder.progress() is None
    folder.write_progress({"step": 1, "loss": float("inf")})
    assert folder.progress() == {"step": 1, "loss": "inf"}
    for damaged in ("{", "", "[1]"):
        (folder.path / "progress.json").write_text(damaged)
        assert folder.progress() is None


# -- the store -------------------------------------------------------------------------------------


def test_a_store_creates_nothing_until_a_run_is_created(store: Store, make_run: MakeRun) -> None:
    assert store.list() == []
    assert store.find("0" * 16) is None
    store.folder(make_run())
    assert not store.runs.exists()


def test_a_folder_is_named_after_its_run(store: Store, make_run: MakeRun) -> None:
    run = make_run()
    folder = store.create(run)
    assert folder.path == store.runs / f"cp-op-smoke-s0-{run.key}"
    assert (folder.slug, folder.key) == (run.slug, run.key)
    assert folder.config() == run.config


def test_creating_again_changes_nothing(store: Store, make_run: MakeRun) -> None:
    before = (store.create(make_run()).path / "run.yaml").stat()
    after = (store.create(make_run()).path / "run.yaml").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_run_is_found_under_the_name_that_another_figure_gave_it(
    store: Store, make_run: MakeRun, make_sealed: MakeSealed
) -> None:
    first = make_sealed(make_run(name="cp-op"))
    other = make_run(name="same-numbers")
    assert store.folder(other) == first
    assert store.create(other) == first
    assert store.find(other.key) == first


def test_a_sealed_folder_is_found_before_an_unfinished_one_of_the_same_key(
    store: Store, make_run: MakeRun, make_sealed: MakeSealed
) -> None:
    sealed = make_sealed(make_run(name="z-later-in-the-alphabet"))
    (store.runs / f"a-earlier-{sealed.key}").mkdir()
    assert store.find(sealed.key) == sealed


def test_the_list_shows_runs_and_nothing_else(store: Store, make_run: MakeRun) -> None:
    folders = [store.create(make_run(name=name)) for name in ("b", "a")]
    assert folders[0] == folders[1], "the same numbers are one run"
    second = store.create(make_run(name="a", seed=1))
    (store.runs / ".a-0.123.tmp").mkdir()
    (store.runs / "stray.txt").touch()
    assert store.list() == [second, folders[0]]


def test_removing_takes_the_whole_folder(store: Store, make_run: MakeRun) -> None:
    folder = store.create(make_run())
    store.remove_unfinished(folder)
    assert list(store.runs.iterdir()) == []
    with pytest.raises(OfeError, match="is not there"):
        store.remove_unfinished(folder)


def test_a_run_in_training_is_not_removed(store: Store, make_run: MakeRun) -> None:
    folder = store.create(make_run())
    with another_process_training(folder), pytest.raises(OfeError, match="another process is training"):
        store.remove_unfinished(folder)
    assert folder.path.exists()


def test_a_copy_is_removed_and_the_sealed_run_of_the_same_key_is_not(
    store: Store, make_run: MakeRun, make_sealed: MakeSealed
) -> None:
    sealed = make_sealed(make_run())
    copy = RunFolder(store.runs / f"backup-{sealed.key}")
    shutil.copytree(sealed.path, copy.path)
    (copy.path / "SHA256SUMS").unlink()
    store.remove_unfinished(copy)
    assert store.list() == [sealed]
    sealed.verify()
    with pytest.raises(OfeError, match="is sealed"):
        store.remove_unfinished(sealed)
    assert sealed.path.exists()


def test_a_folder_that_cannot_be_read_is_told_and_does_not_end_a_list(
    store: Store, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.create(make_run())

    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("reproduce.store.runs.is_sealed", refuse)
    assert folder.status() == ("failed", f"{folder.path} cannot be read: Permission denied")


# -- between machines ------------------------------------------------------------------------------


def test_an_exported_run_can_be_imported_elsewhere(
    store: Store, make_run: MakeRun, make_sealed: MakeSealed, tmp_path: Path
) -> None:
    folder = make_sealed(make_run())
    there = store.export(folder, tmp_path / "usb")
    assert there.path == tmp_path / "usb" / folder.path.name
    assert store.export(folder, tmp_path / "usb") == there, "exporting again is no error"
    other = Store(tmp_path / "other")
    imported = other.import_folder(there.path)
    assert imported.path == other.runs / folder.path.name
    imported.verify()
    assert imported.read_trace().equals(folder.read_trace())
    assert other.import_folder(there.path) == imported
    assert other.folder(make_run()).state == "sealed"


def test_a_renamed_folder_is_imported_under_its_own_name(
    store: Store, make_run: MakeRun, make_sealed: MakeSealed, tmp_path: Path
) -> None:
    folder = make_sealed(make_run())
    renamed = shutil.copytree(folder.path, tmp_path / "my copy")
    other = Store(tmp_path / "other")
    assert other.import_folder(renamed).path.name == folder.path.name
    os.rename(folder.path, folder.path.with_name("cp-op-smoke-s0-0123456789abcdef"))
    with pytest.raises(OfeError, match="describes another run"):
        RunFolder(folder.path.with_name("cp-op-smoke-s0-0123456789abcdef")).verify()


def test_an_import_takes_the_place_of_an_unfinished_run(
    store: Store, make_run: MakeRun, make_sealed: MakeSealed, train: Train, tmp_path: Path
) -> None:
    source = make_sealed(make_run())
    other = Store(tmp_path / "other")
    here = other.create(make_run(name="another-name"))
    train(here.path)
    with here.lock(), pytest.raises(OfeError, match="is being trained"):
        other.import_folder(source.path)
    assert (here.path / CHECKPOINT).exists()
    assert other.import_folder(source.path) == here
    assert here.state == "sealed"
    assert len(other.list()) == 1


def test_a_damaged_folder_is_not_imported(
    store: Store, make_run: MakeRun, make_sealed: MakeSealed, tmp_path: Path
) -> None:
    folder = make_sealed(make_run())
    os.truncate(folder.path / "moments.parquet", 50)
    other = Store(tmp_path / "other")
    with pytest.raises(OfeError, match=r"moments\.parquet"):
        other.import_folder(folder.path)
    with pytest.raises(OfeError, match=r"moments\.parquet"):
        store.export(folder, tmp_path / "usb")
    assert other.list() == []
    with pytest.raises(OfeError, match="not a sealed run"):
        other.import_folder(tmp_path)


def test_an_export_does_not_overwrite_what_is_not_a_run(
    store: Store, make_run: MakeRun, make_sealed: MakeSealed, tmp_path: Path
) -> None:
    folder = make_sealed(make_run())
    (tmp_path / folder.path.name).mkdir()
    with pytest.raises(OfeError, match="exists and is not a sealed run"):
        store.export(folder, tmp_path)


def test_an_unfinished_run_is_not_exported(store: Store, make_run: MakeRun, tmp_path: Path) -> None:
    folder = store.create(make_run())
    with pytest.raises(OfeError, match="not a sealed run"):
        store.export(folder, tmp_path)
    assert yaml.safe_load((folder.path / "run.yaml").read_text())["key"] == folder.key


# -- weights ---------------------------------------------------------------------------------------


def with_weights(folder: RunFolder) -> RunFolder:
    """Make the folder look as if it had kept its weights of step 20."""
    (folder.path / "model.safetensors").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    files = {"20": {"name": "model.safetensors", "sha256": digest}}
    (folder.path / "weights.json").write_text(json.dumps({"end": 20, "same_trace": True, "files": files}))
    return folder


def test_an_export_to_where_it_lies_or_over_a_whole_copy_removes_no_weights(
    store: Store, make_run: MakeRun, make_sealed: MakeSealed, tmp_path: Path
) -> None:
    folder = with_weights(make_sealed(make_run()))
    assert store.export(folder, store.runs).path == folder.path
    assert folder.weights() == [20]
    folder.verify()
    copy = with_weights(store.export(folder, tmp_path / "usb"))
    assert store.export(folder, tmp_path / "usb") == copy
    copy.verify()
    assert copy.weights() == [20]


def test_an_import_mends_a_damaged_run_and_leaves_its_weights(
    store: Store, make_run: MakeRun, make_sealed: MakeSealed, tmp_path: Path
) -> None:
    folder = make_sealed(make_run())
    good = store.export(folder, tmp_path / "usb")
    with_weights(folder)
    (folder.path / "trace.parquet").write_bytes(b"damaged")
    assert store.import_folder(good.path) == folder
    folder.verify()
    assert folder.weights() == [20]


def test_a_folder_that_holds_another_run_is_no_sealed_run(
    store: Store, make_run: MakeRun, make_sealed: MakeSealed, tmp_path: Path
) -> None:
    folder = make_sealed(make_run())
    other = RunFolder(store.runs / "cp-op-smoke-s1-0123456789abcdef")
    shutil.copytree(folder.path, other.path)
    state, reason = other.status()
    assert (state, "another run" in reason) == ("failed", True)
    with pytest.raises(OfeError, match="describes another run"):
        store.export(other, tmp_path / "usb")
    assert folder.state == "sealed"


def test_a_renamed_folder_is_told_its_own_name_and_not_to_be_removed(
    store: Store, make_run: MakeRun, make_sealed: MakeSealed
) -> None:
    folder = make_sealed(make_run())
    renamed = RunFolder(folder.path.rename(folder.path.with_name(f"{folder.path.name}.bak")))
    assert store.list() == [renamed]
    with pytest.raises(OfeError) as caught:
        renamed.verify()
    assert caught.value.hint == f"give it its own name: mv {renamed.path} {folder.path}"
    shutil.copytree(renamed.path, folder.path)
    with pytest.raises(OfeError) as caught:
        renamed.verify()
    assert caught.value.hint.startswith(f"that run has a folder of its own, {folder.path}: ")


@pytest.mark.parametrize("name", ["keep.json", "weights.json"])
def test_a_damaged_list_of_weights_is_told_and_the_trace_is_sealed_all_the_same(
    name: str, store: Store, make_run: MakeRun, make_sealed: MakeSealed
) -> None:
    folder = make_sealed(make_run())
    (folder.path / name).write_text("{")
    folder.write_progress({"state": "interrupted"})
    assert folder.state == "sealed"
    assert name in folder.reason
    with pytest.raises(OfeError, match=name) as caught:
        assert folder.complete
    hint = str(caught.value.hint)
    assert hint.endswith(f"rm {folder.path / name}")


def test_a_repeated_training_can_be_given_up(
    store: Store, make_run: MakeRun, make_sealed: MakeSealed, train: Train
) -> None:
    folder = with_weights(make_sealed(make_run()))
    folder.keep_weights([5])
    train(folder.path)
    assert folder.state == "resumable"
    folder.give_up_weights()
    assert folder.state == "sealed"
    assert folder.complete
    assert folder.weights() == [20]
    folder.verify()


def test_a_folder_whose_files_cannot_be_opened_is_one_row_and_no_more(store: Store, make_run: MakeRun) -> None:
    """As root nothing is closed to us, so a link that leads to itself stands for a file that may not be read."""
    bad, good = store.create(make_run(seed=1)), store.create(make_run())
    (bad.path / "run.yaml").unlink()
    (bad.path / "run.yaml").symlink_to("run.yaml")
    assert "cannot be read" in str(bad.unreadable)
    assert bad.status() == ("failed", bad.unreadable)
    assert (good.unreadable, good.state) == (None, "new")
    assert not bad.sealed


def test_a_pipe_in_a_run_folder_is_told_and_keeps_nobody_waiting(store: Store, make_run: MakeRun) -> None:
    piped, linked = store.create(make_run()), store.create(make_run(seed=1))
    os.mkfifo(piped.path / "progress.json")
    (linked.path / "trace.jsonl").symlink_to("/dev/zero")
    for folder, name in ((piped, "progress.json"), (linked, "trace.jsonl")):
        assert folder.unreadable == f"{folder.path} cannot be used: its {name} is a pipe, a socket or a device"
        assert folder.status() == ("failed", folder.unreadable)
    assert piped.progress() is None


def test_a_folder_that_may_not_be_entered(store: Store, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.create(make_run())
    real = os.open

    def refuse(path: object, *arguments: object, **options: object) -> int:
        if str(path).startswith(str(folder.path)):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    assert folder.status() == ("failed", f"{folder.path} cannot be read: Permission denied")


def test_a_folder_that_holds_its_run_is_preferred_to_one_that_was_renamed(
    store: Store, make_run: MakeRun, make_sealed: MakeSealed
) -> None:
    run, other = make_run(), make_run(seed=1)
    own = store.create(run)
    renamed = make_sealed(other)
    renamed.path.rename(store.runs / f"a-{run.key}")
    assert [folder.sealed for folder in store.list()] == [True, False]
    assert store.find(run.key) == store.folder(run) == own
