"""Text files below a folder: which there are, what they hold, and the hash that identifies them."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from codecs import BOM_UTF8, getincrementaldecoder
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from io import BufferedReader
from pathlib import Path
from types import NoneType
from typing import IO, NamedTuple, cast

from reproduce.data.progress import LeftOut, left_out
from reproduce.errors import OfeError, SpecError
from reproduce.store.home import stated
from reproduce.store.json_text import loads

_BLOCK_BYTES = 2**20


class Found(NamedTuple):
    """Files below a folder, and what beside them is not read."""

    files: dict[str, Path]
    """By relative path with forward slashes, sorted by it."""
    others: list[str]
    """Names of files with another extension."""
    links: list[str]
    """Names of links to folders or to nothing, and of what is no regular file."""

    @property
    def left_out(self) -> list[LeftOut]:
        """What of the folder is not read."""
        count = len(self.files) + len(self.others) + len(self.links)
        other = left_out("files", count, {"of another type": self.others}, lost=False)
        return other + left_out("files", count, {"links to folders or to nothing": self.links})


def find_files(root: Path, extensions: Collection[str] | None, skip_folders: Collection[str]) -> Found:
    """Files with one of `extensions`, or with any, below `root`.

    Hidden folders and hidden files are passed over, as are folders called as in `skip_folders`.

    Raises:
        OfeError: a folder cannot be read.
    """
    files, others, links = {}, [], []
    for folder, folders, names in os.walk(root, onerror=_refuse_folder):
        folders[:] = [name for name in folders if name not in skip_folders and not name.startswith(".")]
        linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]  # os.walk enters none
        within = Path(folder).relative_to(root).as_posix()
        for name in (*names, *linked):
            if name.startswith("."):
                continue
            shown = name if within == "." else f"{within}/{name}"
            if extensions is not None and os.path.splitext(name)[1].lower() not in extensions and name not in linked:
                others.append(shown)
            elif (path := Path(folder, name)).is_file():
                files[shown] = path
            else:
                links.append(shown)
    return Found(dict(sorted(files.items())), sorted(others), sorted(links))


def _refuse_folder(error: OSError) -> None:
    """A folder that may not be read is no empty one."""
    hint = "take it out of the folder, or change its permissions"
    raise OfeError(f"cannot read the folder {error.filename}: {error.strerror}", hint=hint) from error


def user_folder(path: str) -> Path:
    """The folder that `data.path` names.

    Raises:
        SpecError: there is no such folder.
    """
    folder = stated(path)
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


def read_lines(path: Path, longest: int) -> Iterator[str]:
    """Lines of a text file with their ends, as `str.splitlines(keepends=True)` cuts them, a megabyte in memory.

    Args:
        longest: characters after which a line is cut into several, wherever blocks of the file end.

    Raises:
        UnicodeDecodeError: the file is not valid UTF-8; found only where reading comes to that place.
    """
    with _opened(path) as file:
        decoder = getincrementaldecoder("utf-8")()
        left = ""
        while block := file.read(_BLOCK_BYTES):
            lines = (left + decoder.decode(block)).splitlines(keepends=True)
            left = lines.pop() if lines else ""
            for line in lines:
                yield from _cut(line, longest)
            *pieces, left = _cut(left, longest) or [""]
            yield from pieces
        for line in (left + decoder.decode(b"", final=True)).splitlines(keepends=True):
            yield from _cut(line, longest)


def _cut(line: str, longest: int) -> list[str]:
    return [line[start : start + longest] for start in range(0, len(line), longest)]


def read_texts(files: dict[str, Path]) -> tuple[dict[str, str], list[LeftOut]]:
    """Texts by name of the files that are valid UTF-8 and hold more than white space; and what was left out."""
    texts, undecodable, blank = {}, [], []
    for name, path in files.items():
        try:
            text = read_bytes(path).decode()
        except UnicodeDecodeError:
            undecodable.append(name)
            continue
        if text.strip():
            texts[name] = text
        else:
            blank.append(name)
    return texts, not_read(len(files), undecodable, blank)


def not_read(count: int, undecodable: list[str], blank: list[str]) -> list[LeftOut]:
    """Which of `count` files are left out because of what they hold."""
    return left_out("files", count, {"not UTF-8": undecodable}) + left_out("files", count, {"blank": blank}, lost=False)


_JSON = {".jsonl", ".ndjson", ".json"}
_TABLES = {".csv", ".tsv"}


def _kinds(path: Path) -> set[str]:
    """The last two extensions of a file: {".json", ".gz"} of data.json.gz."""
    return {suffix.lower() for suffix in path.suffixes[-2:]}


def _unpacked(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def has_no_rows(path: Path) -> bool:
    """Whether a file of rows has none.

    It is empty (unpacked, where it is .gz), or has nothing but white space where that is no row (JSON, csv), or it is
    a parquet file without rows. A damaged file is not said to have none: reading it says what is wrong.
    """
    kinds = _kinds(path)
    try:
        if path.stat().st_size == 0:
            return True
        if ".parquet" in kinds:
            import pyarrow.parquet as pq

            return bool(pq.read_metadata(path).num_rows == 0)
        with _unpacked(path) as file:
            if kinds & (_JSON | _TABLES):
                return all(block.isspace() for block in iter(lambda: file.read(_BLOCK_BYTES), b""))
            return ".gz" in kinds and not file.read(1)
    except (EOFError, OSError, zlib.error, ValueError):  # pyarrow's errors are ValueError
        return False


def first_stray_line(path: Path) -> int | None:
    """The number of the first line that is not blank, where the file is JSON and no object or array begins there.

    The library that reads JSON ends the process (segmentation fault) where a file begins with `null`.
    """
    if not _kinds(path) & _JSON:
        return None
    line = 1
    try:
        with _unpacked(path) as file:
            while piece := file.readline(_BLOCK_BYTES):
                text = piece.removeprefix(BOM_UTF8).strip()
                if text:
                    return None if text[:1] in (b"{", b"[") else line
                line += piece.endswith(b"\n")
    except (EOFError, OSError, zlib.error):
        pass  # reading it says what is wrong
    return None


def find_damage(files: Mapping[str, Path]) -> str | None:
    """The first line or row of files of rows that cannot be read, as a phrase; None if all can be."""
    for name, path in files.items():
        kinds = _kinds(path)
        if ".parquet" in kinds and (damage := _damaged_parquet(path)):
            return f"{name} {damage}"
        if not kinds & (_JSON | _TABLES | {".txt"}):
            continue
        line = 0
        array = 0  # the line that holds an array: as the only line of a file it is one of rows
        objects = bool(kinds & {".jsonl", ".ndjson"})
        try:
            with _unpacked(path) as file:
                for content in file:
                    line += 1
                    text = content.decode().removeprefix("\ufeff")
                    if not text.strip():
                        continue
                    if line == 1 and ".json" in kinds:
                        objects = _is_object(text)
                    if not objects:
                        continue
                    value = loads(text)
                    if array or not isinstance(value, dict | list | NoneType):
                        return f"line {array or line:,} of {name} is not a JSON object"
                    if isinstance(value, list):
                        array = line
        except UnicodeDecodeError:
            return f"line {line:,} of {name} is not UTF-8"
        except json.JSONDecodeError:
            return f"line {line:,} of {name} is not JSON"
        except (EOFError, OSError, zlib.error):
            return f"{name} is cut off or damaged after its line {line:,}"
    return None


def _damaged_parquet(path: Path) -> str | None:
    """What is wrong with a parquet file, as a predicate; None if all its rows can be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 0
    try:
        with path.open("rb") as opened, pq.ParquetFile(opened) as file:
            for batch in file.iter_batches():
                rows += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        reason = next(iter(str(error).splitlines()), "").rstrip(".")
        return f"is cut off or damaged after its row {rows:,} ({reason})"
    return None


def _is_object(text: str) -> bool:
    """Whether a line is one JSON object, so that its file has one in each line."""
    try:
        return isinstance(loads(text), dict)
    except json.JSONDecodeError:
        return False


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
        line = f"{name}\0{_file_digest(path, status.st_size, status.st_mtime_ns)}\n"
        total.update(line.encode(errors="surrogateescape"))  # names need not be UTF-8
    return total.hexdigest()


def any_long_line(files: Mapping[str, Path], longest: int) -> bool:
    """Whether a line of one of the files has `longest` bytes or more, its end apart.

    About 1 s a GB, and nothing for a file seen before.
    """
    statuses = [(path, path.stat()) for path in files.values()]
    return any(_has_long_line(path, longest, status.st_size, status.st_mtime_ns) for path, status in statuses)


@cache
def _has_long_line(path: Path, longest: int, size: int, modified_ns: int) -> bool:
    if size <= longest:
        return False
    with _opened(path) as file:
        left = 0  # bytes since the last end of a line
        while block := file.read(_BLOCK_BYTES):
            first, *others = block.splitlines()
            lengths = [left + len(first), *map(len, others)]
            if max(lengths) >= longest:
                return True
            left = 0 if block.endswith((b"\n", b"\r")) else lengths[-1]
    return False
