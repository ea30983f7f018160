"""Columns of a data set of rows: which there are, what they hold, and which of them is the text.

Nothing is judged by a first row or a first file alone. A null says nothing about the type of its column, and files may
differ in their columns.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from reproduce.data.files import first_stray_line, has_no_rows
from reproduce.data.hub import explained, hub_address
from reproduce.errors import OfeError, SpecError

if TYPE_CHECKING:
    from datasets import Features, IterableDataset

TEXT_COLUMNS = ("text", "content")
"""Names of the column that is read, in any case; or the only column of strings."""
FORMATS = "the files of a dataset are parquet, jsonl or json.gz"
FILES_JUDGED = 16
"""Files of a data set whose columns are compared, evenly spaced, where the data set does not declare them."""
ROWS_JUDGED = 1_000
"""Rows that are looked at where a format declares no types (csv)."""

Holds = Literal["text", "unknown", "mappings", "lists", "bytes", "numbers", "other"]
"""What a column holds: strings; nothing but nulls as far as is known, or values of several types; anything else."""


def no_text(holds: Holds) -> bool:
    """Whether a column is known to hold something else than text."""
    return holds not in ("text", "unknown")


class Place(NamedTuple):
    """Where `datasets` finds a data set, and what of it has nothing to read."""

    path: str
    """A name on the hub where there is a revision, else a folder."""
    subset: str | None
    revision: str | None
    empty: tuple[str, ...] = ()
    """Files of the folder that have no rows, by relative path. They are not read: many formats fail at them."""


def open_builder(place: Place, features: Features | None = None) -> Any:
    """The `datasets.DatasetBuilder` of a data set, without its empty files.

    Args:
        features: types of the columns; those that the first file suggests if None.
    """
    import datasets
    from datasets.data_files import DataFilesDict, DataFilesList

    address = place.path if place.revision is None else hub_address(place.path)
    builder = datasets.load_dataset_builder(address, place.subset, revision=place.revision, features=features)
    if place.empty:
        kept = {}
        for split, paths in builder.config.data_files.items():
            files = [
                (path, origin)
                for path, origin in zip(paths, paths.origin_metadata, strict=True)
                if _relative(path, place) not in place.empty
            ]
            if files:
                kept[split] = DataFilesList([path for path, _ in files], [origin for _, origin in files])
        builder.config.data_files = DataFilesDict(kept)
    return builder


def _relative(path: str, place: Place) -> str:
    """A file of a folder as `Place.empty` names it. The library has resolved links in the path of the folder."""
    return Path(os.path.relpath(path, Path(place.path).resolve())).as_posix()


class Files(NamedTuple):
    """The files of a folder that are read as a data set."""

    total: int
    empty: tuple[str, ...]
    """Those that have no rows, by relative path."""


def look_at_files(place: Place) -> Files:
    """How many files a data set in a folder has, and which of them are empty. On the hub none is looked at.

    Raises:
        OfeError: the folder cannot be read as a data set, all its files are empty, or one of them is not what its name
            says.
    """
    if place.revision is not None:
        return Files(0, ())
    with explained(f"cannot read {place.path}", FORMATS):
        listed = getattr(open_builder(place).config, "data_files", None) or {}
    paths = {path for paths in listed.values() for path in paths if "://" not in path}  # else in an archive
    empty = [path for path in paths if has_no_rows(Path(path))]
    if paths and len(empty) == len(paths):
        raise OfeError(f"{place.path} has no rows: its files are all empty", hint="take a fresh copy of the data set")
    for path in sorted(paths.difference(empty)):
        if line := first_stray_line(Path(path)):
            raise OfeError(
                f"cannot read {place.path}: line {line:,} of {_relative(path, place)} is not a JSON object",
                hint=f"mend that file, or take it out of {place.path}",
            )
    return Files(len(paths), tuple(sorted(_relative(path, place) for path in empty)))


def find_splits(place: Place) -> tuple[list[str], set[str]]:
    """The names of the splits of a data set, and those among them of which all files are empty."""
    builder = open_builder(place._replace(empty=()))
    listed = getattr(builder.config, "data_files", None) or {}
    names = list(map(str, listed if builder.info.splits is None else builder.info.splits))
    empty = {
        str(split) for split, paths in listed.items() if all(_relative(path, place) in place.empty for path in paths)
    }
    return names, empty


def load_stream(place: Place, split: str, features: Mapping[str, Any] | None = None) -> IterableDataset:
    """The rows of a split one by one, nothing stored.

    Args:
        features: types of the columns as JSON; those that the first file suggests if None.
    """
    import datasets

    types = None if features is None else datasets.Features.from_dict(dict(features))
    return open_builder(place, types).as_streaming_dataset(split)


class Columns(NamedTuple):
    """The columns of a data set."""

    holds: dict[str, Holds]
    features: dict[str, Any] | None
    """The types with which all files can be read, as JSON; None where those that the library finds will do."""


def find_columns(place: Place, splits: Sequence[str]) -> Columns:
    """The columns of the files of `splits`, of which the first must be readable.

    The library takes the columns and types of the first rows of the first file for those of all. Where that file lacks
    a column, or has nothing but nulls in it, reading would stop at the file that has more.
    """
    import datasets

    found = _features_of_files(place, splits)
    if not found:
        return Columns(columns_of(load_stream(place, splits[0])), None)
    nothing, string = datasets.Value("null"), datasets.Value("string")
    merged: dict[str, Any] = {}
    for name, value in itertools.chain.from_iterable(features.items() for features in found):
        if merged.get(name, nothing) == nothing:
            merged[name] = value
    types = datasets.Features({name: string if value == nothing else value for name, value in merged.items()})
    holds = {name: _declared(value) for name, value in merged.items()}
    return Columns(holds, None if types == found[0] else types.to_dict())


def _features_of_files(place: Place, splits: Iterable[str]) -> list[Features]:
    """The columns of some files, the first among them; empty where the data set or its format declares them for all."""
    from datasets.data_files import DataFilesDict, DataFilesList

    first = open_builder(place)
    files = getattr(first.config, "data_files", None)
    if first.info.features is not None or not files:
        return []
    listed = [(split, files[split], at) for split in dict.fromkeys(splits) for at in range(len(files[split]))]
    found: list[Features] = []
    for split, paths, at in listed[:: -(-len(listed) // FILES_JUDGED)]:
        one = open_builder(place)
        one.config.data_files = DataFilesDict({split: DataFilesList([paths[at]], [paths.origin_metadata[at]])})
        try:
            features = one.as_streaming_dataset(split).features
        except Exception:
            if not found:
                raise
            continue  # what is wrong with a later file is told, with its place, when it is read
        if features is None:  # a format without types, such as csv
            return []
        found.append(features)
    return found


def columns_of(stream: IterableDataset) -> dict[str, Holds]:
    """What the columns of a stream hold, by its types, or by many rows where it has none."""
    if stream.features is not None:
        return {name: _declared(value) for name, value in stream.features.items()}
    values: dict[str, set[Holds]] = {}
    for row in itertools.islice(stream, ROWS_JUDGED):
        for name, value in row.items():
            kinds = values.setdefault(name, set())
            if value is not None:
                kinds.add(_held(value))
    return {name: _joined(kinds) for name, kinds in values.items()}


def _held(value: object) -> Holds:
    kinds: list[tuple[type | tuple[type, ...], Holds]] = [
        (str, "text"),
        (Mapping, "mappings"),
        ((list, tuple), "lists"),
        (bytes, "bytes"),
        ((int, float), "numbers"),
    ]
    return next((holds for kind, holds in kinds if isinstance(value, kind)), "other")


def _joined(kinds: set[Holds]) -> Holds:
    """What a column holds that has values of these kinds."""
    if len(kinds) == 1:
        return next(iter(kinds))
    return "other" if kinds and "text" not in kinds else "unknown"


def _declared(value: Any) -> Holds:
    """What a column holds whose type the library gives: a type with a name, a list of types, or types by name."""
    dtype = str(getattr(value, "dtype", ""))
    if dtype in ("string", "large_string", "string_view"):
        return "text"
    kind = type(value).__name__
    if dtype == "null" or kind == "Json":  # how the library declares a column that has values of several types
        return "unknown"
    if isinstance(value, dict):
        return "mappings"
    if isinstance(value, list) or kind in ("List", "LargeList", "Sequence"):
        return "lists"
    if "binary" in dtype:
        return "bytes"
    return "numbers" if dtype.startswith(("int", "uint", "float", "bool", "decimal")) else "other"


def text_column(columns: Mapping[str, Holds], path: str, wanted: str | None) -> str:
    """The column that is the text: the one that is named, one called as in `TEXT_COLUMNS`, or the only one of strings.

    Args:
        path: what an error calls the data set.
        wanted: the column that the user names with `data.column`.

    Raises:
        SpecError: there is no column called `wanted`, or it does not hold text.
        OfeError: it cannot be told which column is the text.
    """
    listed = ", ".join(columns) or "none at all"
    if wanted is not None:
        if wanted not in columns:
            raise SpecError(f"{path} has no column called {wanted} but {listed}", hint="set data.column to one of them")
        if no_text(columns[wanted]):
            raise SpecError(without_text(wanted, path, columns[wanted]), hint=_which(columns))
        return wanted
    for holds in ("text", "unknown"):
        for name in TEXT_COLUMNS:
            for column, found in columns.items():
                if column.lower() == name and found == holds:
                    return column
    misnamed = [column for column in columns if column.lower() in TEXT_COLUMNS]
    if misnamed:  # another column of strings is hardly what is wanted then
        raise OfeError(without_text(misnamed[0], path, columns[misnamed[0]]), hint=_which(columns))
    possible = [column for column, found in columns.items() if not no_text(found)]
    if len(possible) == 1 and columns[possible[0]] == "text":
        return possible[0]
    raise OfeError(f"{path} has no column called {' or '.join(TEXT_COLUMNS)} but {listed}", hint=_which(columns))


def without_text(column: str, path: str, holds: Holds) -> str:
    """What an error says about a column that holds something else than text."""
    held = "no text" if holds == "other" else f"{holds}, not text"
    return f"the column {column} of {path} holds {held}"


def _which(columns: Mapping[str, Holds]) -> str:
    """A hint that names a column to read: never an address or a title where another column says that it is the text."""
    named = [column for name in TEXT_COLUMNS for column in columns if column.lower() == name]
    possible = [column for column in named or columns if not no_text(columns[column])]
    if not possible and named:
        return f"make a copy whose column {named[0]} holds strings, and set data.path to its folder"
    if not possible:
        return "none of its columns holds text: take another data set"
    return f"name the column that holds the text, such as data.column={possible[0]}"


def text_of(value: object) -> str:
    """The text of a row: "" where it is null or no string, which leaves the row out and counts it."""
    return value if isinstance(value, str) else ""
