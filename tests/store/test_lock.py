"""The right to work on a run: on one machine by a lock, between machines by a heartbeat."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from pathlib import Path

import pytest

from reproduce.errors import OfeError
from reproduce.store import lock
from reproduce.store.layout import HEARTBEAT
from reproduce.store.runs import RunFolder


def heartbeat(folder: Path, host: str, age_s: float) -> None:
    path = folder / HEARTBEAT
    path.write_text(json.dumps({"host": host, "pid": 7}))
    then = time.time() - age_s
    os.utime(path, (then, then))


def test_a_living_process_of_another_machine_holds_the_run(tmp_path: Path) -> None:
    heartbeat(tmp_path, "elsewhere", 5)
    assert lock.is_held(tmp_path)
    assert RunFolder(tmp_path).state == "running"
    with pytest.raises(OfeError, match="another process"), RunFolder(tmp_path).lock():
        pytest.fail("held")
    assert [path.name for path in tmp_path.iterdir()] == [HEARTBEAT], "asking leaves nothing behind"


def test_a_lost_process_is_taken_over_from_and_named(tmp_path: Path) -> None:
    heartbeat(tmp_path, "elsewhere", lock.LAPSE_S + 5)
    assert not lock.is_held(tmp_path)
    with RunFolder(tmp_path).lock() as lost:
        assert lost == "process 7 on elsewhere"
        assert json.loads((tmp_path / HEARTBEAT).read_text()) == {"host": socket.gethostname(), "pid": os.getpid()}
    assert not (tmp_path / HEARTBEAT).exists()


def test_a_process_that_was_killed_on_this_machine_needs_no_waiting(tmp_path: Path) -> None:
    heartbeat(tmp_path, socket.gethostname(), 1)
    with RunFolder(tmp_path).lock() as lost:
        assert lost is None


def test_the_heart_beats_while_the_lock_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.02)
    with RunFolder(tmp_path).lock():
        os.utime(tmp_path / HEARTBEAT, (1, 1))
        end = time.monotonic() + 20
        while (tmp_path / HEARTBEAT).stat().st_mtime < 2:
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.mark.parametrize("jump_s", [-86_400, 86_400])
def test_a_clock_that_jumps_has_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    """Ages are between two times of the file system."""
    monkeypatch.setattr(time, "time", lambda: jump_s)
    beat = tmp_path / HEARTBEAT
    beat.write_text(json.dumps({"host": "elsewhere", "pid": 7}))
    assert lock.is_held(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "there"}', '{"host": 1, "pid": "x"}'])
def test_a_damaged_heartbeat_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / HEARTBEAT).write_text(content)
    with RunFolder(tmp_path).lock() as lost:
        assert lost is None


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused_whatever_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OfeError, match="has no locks") as caught, RunFolder(tmp_path).lock():
        pytest.fail("locked")
    assert "local disk" in str(caught.value.hint)
    assert not lock.is_held(tmp_path)


def test_a_folder_that_is_removed_underneath_ends_the_lock_quietly(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with RunFolder(folder).lock():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
