"""Shards against lists of tokens, with a source that counts what is asked of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reproduce.data.progress import Step
from reproduce.data.text import shards
from reproduce.data.text.documents import Order, Split
from reproduce.data.text.shards import TokenShards, joined_lengths, shard_paths, write_shards, written

END = 7


class Tokens:
    """Documents of 0 to 6 tokens, three a batch; the bookmark is the number of the last document read."""

    description = "tokens"
    origin: Mapping[str, Any] = {}
    vocab_size = 300
    end_of_document = END
    order: Order = "permuted"
    vocabulary = "tokens.txt", b""

    def __init__(self, count: int) -> None:
        draw = np.random.default_rng(count)
        self.documents = [draw.integers(10, 300, int(size)).astype(np.uint16) for size in draw.integers(0, 7, count)]
        self.asked: list[tuple[int, object]] = []
        self.last = -1

    def count(self, split: Split) -> None:
        return None

    def read_tokens(self, split: Split, start: int, bookmark: object = None) -> Iterator[list[np.ndarray]]:
        self.asked.append((start, bookmark))
        for first in range(start, len(self.documents), 3):
            self.last = min(first + 3, len(self.documents)) - 1
            yield self.documents[first : first + 3]

    def bookmark(self, split: Split) -> int:
        return self.last


def _write(folder: Path, documents: Tokens, limit: int | None = None, lines: list[str] | None = None) -> None:
    told = [] if lines is None else lines
    write_shards(folder, "train", documents, end=END, limit=limit, progress=told.append)


def _read(folder: Path) -> list[list[int]]:
    paths = shard_paths(folder, "train")
    return [document.tolist() for document in TokenShards.open(paths, joined_lengths(paths))]


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_TOKENS", 20)


def test_what_is_read_is_what_was_written_without_the_empty_documents(tmp_path: Path) -> None:
    documents = Tokens(40)
    assert any(len(one) == 0 for one in documents.documents)
    _write(tmp_path, documents)
    assert _read(tmp_path) == [[*one.tolist(), END] for one in documents.documents if len(one)]
    assert len(shard_paths(tmp_path, "train")) > 4
    place = written(tmp_path, "train")
    assert place.documents == 40
    assert place.tokens == sum(map(len, _read(tmp_path)))


def test_any_stretch_of_a_document_is_a_view_of_its_shard(tmp_path: Path) -> None:
    documents = Tokens(40)
    _write(tmp_path, documents)
    paths = shard_paths(tmp_path, "train")
    opened = TokenShards.open(paths, joined_lengths(paths))
    expected = _read(tmp_path)
    stretches = ((number, start) for number, whole in enumerate(expected) for start in range(len(whole)))
    for number, start in stretches:
        stretch = opened.read(number, start, len(expected[number]))
        assert stretch.tolist() == expected[number][start:]
        assert stretch.dtype == np.uint16
        assert isinstance(stretch, np.memmap)


@pytest.mark.parametrize("survivors", range(6))
def test_a_stop_after_any_shard_changes_no_byte(tmp_path: Path, survivors: int) -> None:
    whole, halted = tmp_path / "whole", tmp_path / "halted"
    whole.mkdir()
    halted.mkdir()
    _write(whole, Tokens(40))
    _write(halted, Tokens(40))
    for path in shard_paths(halted, "train")[survivors:]:
        path.unlink()
    place = written(halted, "train")
    again = Tokens(40)
    _write(halted, again)
    assert _bytes(halted) == _bytes(whole)
    assert again.asked == [(place.documents, place.bookmark)]
    assert place.bookmark == (place.documents - 1 if survivors else None)


def test_a_limit_ends_the_split_with_a_whole_document(tmp_path: Path) -> None:
    documents = Tokens(40)
    full = [[*one.tolist(), END] for one in documents.documents if len(one)]
    _write(tmp_path, documents, limit=50)
    sizes = np.cumsum([len(one) for one in full])
    expected = full[: int(np.searchsorted(sizes, 50)) + 1]
    assert _read(tmp_path) == expected
    assert written(tmp_path, "train").tokens >= 50
    again = Tokens(40)
    _write(tmp_path, again, limit=50)
    assert again.asked == [], "a split that has all its tokens is not read again"


def test_a_limit_gives_the_beginning_of_the_whole(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "part").mkdir()
    _write(tmp_path / "whole", Tokens(40))
    _write(tmp_path / "part", Tokens(40), limit=60)
    part = _read(tmp_path / "part")
    assert part == _read(tmp_path / "whole")[: len(part)]


def test_progress_is_told_in_steps_and_at_every_shard(tmp_path: Path) -> None:
    lines: list[str] = []
    _write(tmp_path, Tokens(40), limit=60, lines=lines)
    steps = [line for line in lines if isinstance(line, Step)]
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert (steps[-1].done, steps[-1].total) == (60, 60)
    told = [line for line in lines if not isinstance(line, Step)]
    assert len(told) == len(shard_paths(tmp_path, "train"))
    assert told[-1].startswith("tokenised ")
    assert told[-1].endswith(" of 60 tokens")


def test_nothing_to_read_leaves_no_shard(tmp_path: Path) -> None:
    _write(tmp_path, Tokens(0))
    assert _read(tmp_path) == []


def test_only_empty_documents_are_read_once(tmp_path: Path) -> None:
    documents = Tokens(0)
    documents.documents = [np.empty(0, np.uint16)] * 4
    _write(tmp_path, documents)
    assert _read(tmp_path) == []
    assert written(tmp_path, "train").documents == 4
