"""Documents as tokens on disk: flat arrays of whole documents, memory-mapped, written so that a stop costs little.

    <split>-00000.npy            (n,) token ids, document after document
    <split>-00000.lengths.npy    (d,) uint32: tokens of each of these documents
    <split>-00000.json           documents read and tokens written when the shard was full, and the source's bookmark

The last of the three to be written is the first, each aside and renamed: a shard whose tokens are there is whole.
One shard is in memory at a time, and one batch of documents: well below 1 GB however long the text is, as long as no
single document is of hundreds of megabytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reproduce.data.arrays import save_array
from reproduce.data.progress import Progress, Step
from reproduce.data.text.documents import Bookmark, Split, TokenDocuments
from reproduce.data.text.tokeniser import token_dtype
from reproduce.store.atomic import write_json
from reproduce.store.json_text import loads

SHARD_TOKENS = 2**26
"""Tokens after which the work so far is safe: 128 MiB, a minute or two of tokenising."""

SPLIT_NAMES: dict[Split, str] = {"train": "training", "eval": "held-out"}
"""What the documents of a split are called in what is told."""


class Place(NamedTuple):
    """How far a split has been written."""

    shards: int
    documents: int
    """Documents read from the source, empty ones among them."""
    tokens: int
    bookmark: Bookmark


def shard_path(folder: Path, split: Split, number: int) -> Path:
    return folder / f"{split}-{number:05}.npy"


def lengths_path(shard: Path) -> Path:
    return shard.with_suffix(".lengths.npy")


def shard_paths(folder: Path, split: Split) -> list[Path]:
    """The shards of a split that are there, in order."""
    return list(itertools.takewhile(Path.exists, (shard_path(folder, split, number) for number in itertools.count())))


def written(folder: Path, split: Split) -> Place:
    """How far an earlier preparation came."""
    shards = shard_paths(folder, split)
    if not shards:
        return Place(0, 0, 0, None)
    note = loads(shards[-1].with_suffix(".json").read_bytes())
    return Place(len(shards), note["documents"], note["tokens"], note["bookmark"])


def write_shards(
    folder: Path, split: Split, documents: TokenDocuments, *, end: int | None, limit: int | None, progress: Progress
) -> Place:
    """Write the documents of a split, starting after the shards that are already there.

    Documents without tokens are left out. Where a shard ends depends on the documents alone, not on interruptions.

    Args:
        end: a token to follow every document.
        limit: tokens after which no further document is taken; the last one is kept whole.
    """
    place = written(folder, split)
    if limit is not None and place.tokens >= limit:
        return place
    read, tokens = place.documents, place.tokens
    terminator = np.array([] if end is None else [end], token_dtype(documents.vocab_size))
    pieces: list[np.ndarray] = []
    lengths: list[int] = []
    full = False

    def flush() -> Place:
        shard = shard_path(folder, split, place.shards)
        bookmark = documents.bookmark(split)
        save_array(lengths_path(shard), np.array(lengths, np.uint32))
        write_json(shard.with_suffix(".json"), {"documents": read, "tokens": tokens, "bookmark": bookmark})
        save_array(shard, np.concatenate([*pieces, terminator[:0]]))
        progress(_said("tokenised", split, documents, read, tokens, limit))
        pieces.clear()
        lengths.clear()
        return Place(place.shards + 1, read, tokens, bookmark)

    for batch in documents.read_tokens(split, read, place.bookmark):
        for document in batch:
            read += 1
            if len(document):
                pieces += [document, terminator]
                lengths.append(len(document) + len(terminator))
                tokens += lengths[-1]
            full = limit is not None and tokens >= limit
            if full:
                break
        progress(_step(split, documents, read, tokens, limit))
        if full or tokens - place.tokens >= SHARD_TOKENS:
            place = flush()
        if full:
            break
    return flush() if read > place.documents else place


def _step(split: Split, documents: TokenDocuments, read: int, tokens: int, limit: int | None) -> Step:
    said = _said("tokenising", split, documents, read, tokens, limit)
    return Step(said, read, documents.count(split)) if limit is None else Step(said, min(tokens, limit), limit)


def _said(verb: str, split: Split, documents: TokenDocuments, read: int, tokens: int, limit: int | None) -> str:
    count = documents.count(split)
    whole = "" if count is None or limit is not None else f" of {count:,}"
    capped = "" if limit is None else f" of {limit:,}"
    amount = "" if whole else f", {tokens:,}{capped} tokens"
    return f"{verb} {read:,}{whole} {SPLIT_NAMES[split]} documents{amount}"


@dataclass(frozen=True)
class TokenShards:
    """Shards of a split as one array of documents, memory-mapped.

    Documents lie whole in a shard, so that any stretch of one is a slice of one file.
    """

    arrays: Sequence[np.ndarray]
    lengths: np.ndarray
    """(D,) uint32: tokens of each document, with the end-of-document token where there is one."""
    starts: np.ndarray
    """(D,) int64: place of each document's first token, counted through all shards."""
    firsts: np.ndarray
    """(S,) int64: place of each shard's first token."""

    @classmethod
    def open(cls, paths: Sequence[Path], lengths: np.ndarray) -> TokenShards:
        arrays = [np.load(path, mmap_mode="r") for path in paths]
        ends = np.cumsum(lengths, dtype=np.int64)
        sizes = np.cumsum([0, *(len(array) for array in arrays)], dtype=np.int64)
        assert len(ends) == 0 or ends[-1] == sizes[-1], "the shards hold the documents and nothing else"
        return cls(arrays, lengths, ends - lengths, sizes[:-1])

    def read(self, document: int, start: int, stop: int) -> np.ndarray:
        """Tokens `start`, ..., `stop - 1` of a document: a view into its shard."""
        place = int(self.starts[document])
        shard = int(np.searchsorted(self.firsts, place, side="right")) - 1
        place -= int(self.firsts[shard])
        return self.arrays[shard][place + start : place + stop]

    def __iter__(self) -> Iterator[np.ndarray]:
        """The documents in order."""
        return (self.read(number, 0, int(length)) for number, length in enumerate(self.lengths))


def joined_lengths(paths: Sequence[Path]) -> np.ndarray:
    """(D,) uint32: the documents' lengths of several shards."""
    return np.concatenate([np.empty(0, np.uint32), *(np.load(lengths_path(path)) for path in paths)])
