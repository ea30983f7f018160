"""Text files below a folder: which there are, what they hold, and the hash that identifies them."""

from __future__ import annotations

import hashlib
import os
from codecs import getincrementaldecoder
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from io import BufferedReader
from pathlib import Path

from reproduce.errors import OfeError, SpecError

_BLOCK_BYTES = 2**20


def find_files(root: Path, extensions: Collection[str] | None, skip_folders: Collection[str]) -> dict[str, Path]:
    """Files with one of `extensions`, or with any, below `root`, by relative path with forward slashes, sorted by it.

    Hidden folders, hidden files, and links to folders or to nothing are left out, as are folders called as in
    `skip_folders`.
    """
    found = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in skip_folders and not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            wanted = extensions is None or path.suffix.lower() in extensions
            if wanted and not name.startswith(".") and path.is_file():
                found[path.relative_to(root).as_posix()] = path
    return dict(sorted(found.items()))


def user_folder(path: str) -> Path:
    """The folder that `data.path` names.

    Raises:
        SpecError: there is no such folder.
    """
    folder = Path(path).expanduser().absolute()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise SpecError(
            f"{path} is a file, not a folder", hint=f"set data.path to the folder that holds it: {folder.parent}"
        )
    raise SpecError(f"the folder {path} does not exist", hint="set data.path to a folder of text")


def read_bytes(path: Path) -> bytes:
    """Content of a file that the user, not ofe, has put there."""
    with _opened(path) as file:
        return file.read()


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        hint = "take it out of the folder, or change its permissions"
        raise OfeError(f"cannot read {path}: {error.strerror}", hint=hint) from error


def read_lines(path: Path) -> Iterator[str]:
    """Lines of a text file with their ends, as `str.splitlines(keepends=True)` cuts them, a megabyte in memory.

    Raises:
        UnicodeDecodeError: the file is not valid UTF-8; found only where reading comes to that place.
    """
    with _opened(path) as file:
        decoder = getincrementaldecoder("utf-8")()
        left = ""
        while block := file.read(_BLOCK_BYTES):
            lines = (left + decoder.decode(block)).splitlines(keepends=True)
            left = lines.pop() if lines else ""
            yield from lines
        yield from (left + decoder.decode(b"", final=True)).splitlines(keepends=True)


def read_texts(files: dict[str, Path]) -> dict[str, str]:
    """Texts of the files that are valid UTF-8 and hold more than white space, by name; the others are left out."""
    texts = {}
    for name, path in files.items():
        try:
            text = read_bytes(path).decode()
        except UnicodeDecodeError:
            continue
        if text.strip():
            texts[name] = text
    return texts


@cache
def _file_digest(path: Path, size: int, modified_ns: int) -> str:
    """Hash of a file; size and time of change make a changed file another entry of the cache."""
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(files: dict[str, Path]) -> str:
    """Hash of the names and contents of `files`, in order; about 2 s a GB, and nothing for a file seen before."""
    total = hashlib.sha256()
    for name, path in files.items():
        status = path.stat()
        total.update(f"{name}\0{_file_digest(path, status.st_size, status.st_mtime_ns)}\n".encode())
    return total.hexdigest()
