"""Writing files atomically: a file has either its old content or its new one, never a part.

The new content goes to a hidden sibling first. The sibling takes the file's name when it has reached the disk, so
whatever interrupts the writing, the old content is still there.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reproduce.store.home import explain_os_errors
from reproduce.store.json_text import dumps


def aside_of(path: Path) -> Path:
    """The hidden sibling to which the new content of `path` is written."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextmanager
def replacing(path: Path, *, durable: bool = True, needs: int | None = None) -> Iterator[Path]:
    """Yield a path to write to. It replaces `path` in one step when the context ends without an error.

    A terminal, a pipe or another device (/dev/stdout, /dev/null) is written to and not replaced.

    Args:
        durable: whether to wait until the content and the name are on the disk. A file that is not durable survives a
            killed process, though not a power cut, which is enough for state that is rewritten every second.
        needs: size of the content in bytes, where that is known: an error of a full disk then tells it.

    Raises:
        OfeError: the disk is full or cannot be written.
    """
    if path.exists() and not path.is_file():
        with explain_os_errors(path, needs=needs), _copied_to(path) as copied:
            yield copied
        return
    aside = aside_of(path)
    with explain_os_errors(path, needs=needs):
        try:
            yield aside
            if durable:
                sync(aside)  # before the renaming, or else a power cut could leave the name without the content
            os.replace(aside, path)
            if durable:
                sync(path.parent)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


@contextmanager
def _copied_to(device: Path) -> Iterator[Path]:
    """Yield a file whose content is written to `device` when the context ends without an error."""
    if device.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(device))
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder, device.name)
        yield copied
        with copied.open("rb") as source, device.open("wb") as target:
            shutil.copyfileobj(source, target)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder, and journals renaming
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` to `path` atomically, see `replacing`."""
    with replacing(path, durable=durable, needs=len(data)) as aside:
        aside.write_bytes(data)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write `text` to `path` atomically as UTF-8, with the same line ends and so the same bytes on every system."""
    write_bytes(path, text.encode(), durable=durable)


def write_json(path: Path, value: object, *, durable: bool = True) -> None:
    """Write `value` to `path` atomically as strict JSON, see `reproduce.store.json_text`."""
    write_text(path, dumps(value, indent=2) + "\n", durable=durable)


def file_hash(path: Path) -> str:
    """SHA-256 of the content of `path`, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
