"""One process prepares, the others wait for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reproduce.data.text.documents import Progress
from reproduce.store.home import ensure_home, explain_os_errors


def prepare_once(folder: Path, prepare: Callable[[], None], progress: Progress) -> None:
    """Call `prepare`, which makes `folder`, unless the folder is there or another process makes it first.

    The lock is `<folder>.lock`; nothing is written where the folder is there already.
    """
    if folder.is_dir():
        return
    from filelock import FileLock, Timeout

    ensure_home()
    lock = FileLock(f"{folder}.lock")
    with explain_os_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress(f"waiting for another process that prepares {folder.name}")
            lock.acquire()
    try:
        if not folder.is_dir():
            prepare()
    finally:
        lock.release()
