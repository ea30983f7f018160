"""Which column is the text, whatever the first row and the first file hold."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reproduce.data import columns
from reproduce.data.columns import Place, find_columns, load_stream, text_column
from reproduce.errors import OfeError, SpecError

pytestmark = pytest.mark.usefixtures("no_network")

Row = Mapping[str, Any]
ROWS = [{"url": f"u{number}", "text": f"t{number}"} for number in range(40)]
NULL_FIRST = [{"url": "u", "text": None}, *ROWS]


def _jsonl(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _csv(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _parquet(path: Path, rows: Sequence[Row]) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "some").mkdir()
    return tmp_path / "some"


def _read(folder: Path, wanted: str | None = None) -> list[object]:
    """All values of the column that is taken for the text."""
    place = Place(str(folder), None, None)
    found = find_columns(place, ["train"])
    column = text_column(found.holds, "it", wanted)
    return [row.get(column) for row in load_stream(place, "train", found.features)]


@pytest.mark.parametrize(("write", "suffix"), [(_jsonl, "jsonl"), (_csv, "csv"), (_parquet, "parquet")])
@pytest.mark.parametrize("nulls", [1, 30])
def test_a_null_in_the_first_rows_says_nothing(folder: Path, write: Any, suffix: str, nulls: int) -> None:
    write(folder / f"train.{suffix}", [{"url": "u", "text": None}] * nulls + ROWS)
    assert _read(folder) == [None] * nulls + [row["text"] for row in ROWS]


@pytest.mark.parametrize(("write", "suffix"), [(_jsonl, "jsonl"), (_csv, "csv"), (_parquet, "parquet")])
def test_the_only_column_may_begin_with_a_null(folder: Path, write: Any, suffix: str) -> None:
    rows = [{"score": 1, "text": row["text"]} for row in NULL_FIRST]
    write(folder / f"train.{suffix}", rows)
    assert _read(folder) == [row["text"] for row in rows]


def test_the_first_row_may_lack_the_column(folder: Path) -> None:
    _jsonl(folder / "train.jsonl", [{"url": "u"}, *ROWS])
    assert _read(folder) == [None, *(row["text"] for row in ROWS)]


@pytest.mark.parametrize("first", [[{"url": "u"}] * 5, [{"url": "u", "text": None}] * 5])
def test_the_first_file_does_not_speak_for_the_others(folder: Path, first: list[Row]) -> None:
    _jsonl(folder / "train-0.jsonl", first)
    _jsonl(folder / "train-1.jsonl", ROWS)
    assert _read(folder) == [None] * 5 + [row["text"] for row in ROWS]


def test_nulls_of_the_first_file_hide_no_only_column(folder: Path) -> None:
    _jsonl(folder / "train-0.jsonl", [{"score": 1, "story": None}] * 5)
    _jsonl(folder / "train-1.jsonl", [{"score": 1, "story": row["text"]} for row in ROWS])
    assert _read(folder) == [None] * 5 + [row["text"] for row in ROWS]


def test_the_first_parquet_file_may_lack_the_column(folder: Path) -> None:
    _parquet(folder / "train-0.parquet", [{"url": "u"}] * 5)
    _parquet(folder / "train-1.parquet", ROWS)
    assert _read(folder) == [None] * 5 + [row["text"] for row in ROWS]


def test_nulls_may_fill_all_that_the_library_looks_at(folder: Path) -> None:
    """Types are inferred from the first ten megabytes: here they are nulls alone, and another column has strings."""
    _jsonl(folder / "train.jsonl", [{"url": "u" * 1_000, "text": None}] * 11_000 + ROWS)
    read = _read(folder)
    assert (read[0], read[-1], len(read)) == (None, "t39", 11_040)


def test_values_of_several_types_are_still_the_text(folder: Path) -> None:
    _jsonl(folder / "train.jsonl", [{"url": "u", "text": 5}, *ROWS])
    assert _read(folder) == [5, *(row["text"] for row in ROWS)]
    assert [columns.text_of(value) for value in (5, None, "", "t", ["t"])] == ["", "", "", "t", ""]


def test_only_so_many_files_are_looked_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(9):
        _jsonl(folder / f"train-{number}.jsonl", ROWS[:2])
    monkeypatch.setattr(columns, "FILES_JUDGED", 3)
    assert len(columns._features_of_files(Place(str(folder), None, None), ["train"])) == 3


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"url": "text", "text": "unknown"}, "text"),
        ({"url": "text", "TEXT": "text"}, "TEXT"),
        ({"content": "text", "text": "text"}, "text"),
        ({"content": "text", "text": "unknown"}, "content"),
        ({"content": "text", "text": "other"}, "content"),
        ({"score": "other", "story": "text"}, "story"),
    ],
)
def test_the_column_that_is_taken(found: dict[str, columns.Holds], expected: str) -> None:
    assert text_column(found, "it", None) == expected


@pytest.mark.parametrize(
    "found",
    [
        {"url": "text", "title": "text"},
        {"url": "text", "story": "unknown"},  # the strings are in a column that may be of no interest
        {"story": "unknown"},
        {"score": "other", "summary": "other"},
        {},
    ],
)
def test_what_cannot_be_told_is_asked(found: dict[str, columns.Holds]) -> None:
    with pytest.raises(OfeError, match="it has no column called text or content but") as caught:
        text_column(found, "it", None)
    possible = next((name for name, holds in found.items() if holds != "other"), None)
    assert (f"data.column={possible}" if possible else "take another data set") in str(caught.value.hint)


@pytest.mark.parametrize(
    ("write", "value", "held"),
    [
        (_jsonl, {"body": "words"}, "mappings"),
        (_jsonl, ["a", "list"], "lists"),
        (_jsonl, 5, "numbers"),
        (_parquet, b"words", "bytes"),
        (_parquet, {"body": "words"}, "mappings"),
        (_parquet, [{"body": "words"}], "lists"),
        (_csv, 5, "numbers"),
    ],
)
@pytest.mark.parametrize("column", ["text", "content"])
def test_a_column_called_text_that_holds_none(folder: Path, write: Any, value: object, held: str, column: str) -> None:
    """What it holds is said, and the addresses beside it are not proposed in its place."""
    write(folder / f"train.{write.__name__[1:]}", [{"url": "u", column: value}] * 9)
    with pytest.raises(OfeError, match=f"the column {column} of it holds {held}, not text") as caught:
        _read(folder)
    assert caught.value.hint == f"make a copy whose column {column} holds strings, and set data.path to its folder"


def test_another_column_is_proposed_only_where_none_is_called_text() -> None:
    proposals = {
        "content": text_hint({"url": "text", "text": "lists", "content": "text", "score": "numbers"}, "score"),
        "url": text_hint({"url": "text", "score": "numbers"}, "score"),
    }
    assert proposals == {
        column: f"name the column that holds the text, such as data.column={column}" for column in proposals
    }


def text_hint(found: Mapping[str, columns.Holds], wanted: str) -> str | None:
    with pytest.raises(SpecError, match=f"the column {wanted} of it holds numbers, not text") as caught:
        text_column(found, "it", wanted)
    return caught.value.hint


def test_the_user_names_the_column(folder: Path) -> None:
    _jsonl(folder / "train.jsonl", NULL_FIRST)
    assert _read(folder, "url") == [row["url"] for row in NULL_FIRST]
    with pytest.raises(SpecError, match="it has no column called story but url, text"):
        _read(folder, "story")
    with pytest.raises(SpecError, match="the column score of it holds no text"):
        text_column({"score": "other", "text": "text"}, "it", "score")
