"""Columns of a data set of rows: which there are, what they hold, and which of them is the text.

Nothing is judged by a first row or a first file alone. A null says nothing about the type of its column, and files may
differ in their columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from reproduce.errors import OfeError, SpecError

if TYPE_CHECKING:
    from datasets import Features, IterableDataset

TEXT_COLUMNS = ("text", "content")
"""Names of the column that is read, in any case; or the only column of strings."""
FILES_JUDGED = 16
"""Files of a data set whose columns are compared, evenly spaced, where the data set does not declare them."""
ROWS_JUDGED = 1_000
"""Rows that are looked at where a format declares no types (csv)."""

Holds = Literal["text", "unknown", "other"]
"""What a column holds: strings; nothing but nulls as far as is known, or values of several types; anything else."""


class Place(NamedTuple):
    """Where `datasets.load_dataset` finds a data set."""

    path: str
    """A name on the hub, or a folder."""
    subset: str | None
    revision: str | None


def load_stream(place: Place, split: str, features: Mapping[str, Any] | None = None) -> IterableDataset:
    """The rows of a split one by one, nothing stored.

    Args:
        features: types of the columns as JSON; those that the first file suggests if None.
    """
    import datasets

    path, subset, revision = place
    types = None if features is None else datasets.Features.from_dict(dict(features))
    return datasets.load_dataset(path, subset, split=split, revision=revision, streaming=True, features=types)


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
    import datasets
    from datasets.data_files import DataFilesDict, DataFilesList

    def builder() -> Any:
        return datasets.load_dataset_builder(place.path, place.subset, revision=place.revision)

    first = builder()
    files = getattr(first.config, "data_files", None)
    if first.info.features is not None or not files:
        return []
    listed = [(split, files[split], at) for split in dict.fromkeys(splits) for at in range(len(files[split]))]
    found: list[Features] = []
    for split, paths, at in listed[:: -(-len(listed) // FILES_JUDGED)]:
        one = builder()
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
                kinds.add("text" if isinstance(value, str) else "other")
    return {name: kinds.pop() if len(kinds) == 1 else "unknown" for name, kinds in values.items()}


def _declared(value: Any) -> Holds:
    dtype = getattr(value, "dtype", None)
    if dtype in ("string", "large_string", "string_view"):
        return "text"
    # Json is how the library declares a column that has values of several types.
    return "unknown" if dtype == "null" or type(value).__name__ == "Json" else "other"


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
        if columns[wanted] == "other":
            raise SpecError(f"the column {wanted} of {path} holds no text", hint=_which(columns))
        return wanted
    for holds in ("text", "unknown"):
        for name in TEXT_COLUMNS:
            for column, found in columns.items():
                if column.lower() == name and found == holds:
                    return column
    misnamed = [column for column in columns if column.lower() in TEXT_COLUMNS]
    if misnamed:  # another column of strings is hardly what is wanted then
        raise OfeError(f"the column {misnamed[0]} of {path} holds no text", hint=_which(columns))
    possible = [column for column, found in columns.items() if found != "other"]
    if len(possible) == 1 and columns[possible[0]] == "text":
        return possible[0]
    raise OfeError(f"{path} has no column called {' or '.join(TEXT_COLUMNS)} but {listed}", hint=_which(columns))


def _which(columns: Mapping[str, Holds]) -> str:
    possible = [column for column, found in columns.items() if found != "other"]
    if not possible:
        return "none of its columns holds text: take another data set"
    return f"name the column that holds the text, such as data.column={possible[0]}"


def text_of(value: object) -> str:
    """The text of a row: "" where it is null or no string, which leaves the row out and counts it."""
    return value if isinstance(value, str) else ""
