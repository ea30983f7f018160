"""The exclusive right to work on a run: a lock of the operating system, and a heartbeat for other machines.

    lock         locked by the process that works. The system releases it when that process dies.
    heartbeat    {"host": ..., "pid": ...}, touched every `BEAT_S` seconds while the lock is held, and then removed

Some shared file systems keep locks to each machine, so that two machines could hold the same lock. A heartbeat of
another machine that is younger than `LAPSE_S` therefore counts as a held lock. If that machine is lost, its heartbeat
lapses, and the run is taken over. Ages are differences of two times that the file system itself has written, so that
neither a clock that jumps nor two clocks that differ have an effect.
"""

from __future__ import annotations

import errno
import inspect
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import filelock

from reproduce.store.home import explain_os_errors
from reproduce.store.json_text import loads
from reproduce.store.layout import HEARTBEAT, LOCK
from reproduce.store.regular import text_of

BEAT_S = 10.0
"""Seconds between two beats."""
LAPSE_S = 90.0
"""Age in seconds from which a heartbeat of another machine says that its process is lost."""
PATIENCE_S = 0.5
"""Seconds that a worker waits for the lock, because asking for a folder's state holds the lock for a moment."""


_FALLBACK = "fallback_to_soft"
_CAN_REFUSE = _FALLBACK in inspect.signature(filelock.BaseFileLock.__init__).parameters
"""Whether filelock can be told not to use files that merely exist as locks, which a killed process would leave."""


class Held(Exception):
    """Another process works on the run."""


class Holder(NamedTuple):
    """The process that a heartbeat names."""

    host: str
    pid: int


def is_held(folder: Path) -> bool:
    """Whether a process of this or another machine works on the run."""
    if living_elsewhere(folder) is not None:
        return True
    if not os.path.exists(folder / LOCK):
        return False
    try:
        with _lock(folder, 0):
            return False
    except Held:
        return True
    except OSError:  # the folder of another user, which we may read but not lock
        return False


@contextmanager
def held(folder: Path) -> Iterator[Holder | None]:
    """Hold the lock of `folder`, and yield the lost process from which the run is taken over, if there is one.

    Raises:
        Held: another process holds it.
        OfeError: the file system has no locks, or cannot be written.
    """
    if living_elsewhere(folder) is not None:
        raise Held
    with explain_os_errors(folder / LOCK):
        lock = _acquired(folder, PATIENCE_S)
    lost = _read(folder)
    if lost is not None and lost.host == socket.gethostname():
        lost = None  # killed on this machine, whose lock has told so at once
    stop = threading.Event()
    beating = threading.Thread(target=_beat, args=(folder, stop), daemon=True)
    try:
        with explain_os_errors(folder / HEARTBEAT):
            _first_beat(folder)
        beating.start()
        yield lost
    finally:
        stop.set()
        with suppress(OSError):  # the folder may be gone or the disk may have failed, which the work itself tells
            (folder / HEARTBEAT).unlink(missing_ok=True)
        lock.release()


def living_elsewhere(folder: Path) -> Holder | None:
    """The process of another machine whose heartbeat in `folder` has not lapsed, or None."""
    holder = _read(folder)
    if holder is None or holder.host == socket.gethostname():
        return None
    aside = folder / f".now.{os.getpid()}.tmp"
    try:
        aside.touch()  # what time the file system has now
        age = aside.stat().st_mtime - (folder / HEARTBEAT).stat().st_mtime
    except OSError:  # a folder that we may not write, or a heartbeat that has just ended
        return None
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
    return holder if age < LAPSE_S else None


def _read(folder: Path) -> Holder | None:
    try:
        content = loads(text_of(folder / HEARTBEAT))
        return Holder(str(content["host"]), int(content["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _first_beat(folder: Path) -> None:
    """Write the heartbeat of this process, which two machines cannot do at the same time.

    Raises:
        Held: another machine has just written its own.
    """
    path = folder / HEARTBEAT
    path.unlink(missing_ok=True)  # that of a process which is gone
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
    except FileExistsError as error:
        raise Held from error


def _beat(folder: Path, stop: threading.Event) -> None:
    while not stop.wait(BEAT_S):
        with suppress(OSError):
            os.utime(folder / HEARTBEAT)


@contextmanager
def _lock(folder: Path, patience_s: float) -> Iterator[None]:
    lock = _acquired(folder, patience_s)
    try:
        yield
    finally:
        lock.release()


def _acquired(folder: Path, patience_s: float) -> filelock.BaseFileLock:
    lock = system_lock(folder / LOCK)
    try:
        acquire(lock, patience_s)
    except filelock.Timeout as error:
        raise Held from error
    return lock


def system_lock(path: Path) -> filelock.BaseFileLock:
    """The lock of the operating system on `path`, not acquired yet."""
    refuse: dict[str, Any] = {_FALLBACK: False} if _CAN_REFUSE else {}
    return filelock.FileLock(path, **refuse)


def acquire(lock: filelock.BaseFileLock, patience_s: float | None = None) -> None:
    """Acquire `lock`, waiting for at most `patience_s` seconds, or as long as it takes if None.

    Raises:
        filelock.Timeout: another process holds it.
        OSError: the file system has no locks (ENOLCK, whatever it says of that).
    """
    try:
        lock.acquire(timeout=-1 if patience_s is None else patience_s)
    except NotImplementedError as error:  # filelock's word for a file system without locks
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), lock.lock_file) from error
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), lock.lock_file) from error
        raise
