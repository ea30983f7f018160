"""What a corpus is made from: documents, some of which are held out, and a tokeniser.

TextSource      knows what it would read (cheap: this gives the fingerprint) and can open it
Documents       an opened source: documents of each split in a fixed order, and the tokeniser
TokenDocuments  an opened source whose documents are tokens already
LocalDocuments  the Documents that fit in memory, with a tokeniser trained on the training split
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer

Split = Literal["train", "eval"]
SPLITS: tuple[Split, ...] = ("train", "eval")
Progress = Callable[[str], None]
Bookmark = Any
"""JSON by which a source finds its place again; None where the number of documents read suffices."""
Order = Literal["permuted", "listed"]
"""How documents come to their queues in stream packing: in an order drawn from the run's seed, or the listed one."""


class Step(str):
    """A line of progress that a bar can show instead: how much of a task is done."""

    done: int
    total: int | None
    """All there is to do, where that is known."""

    def __new__(cls, line: str, done: int, total: int | None) -> Step:
        step = super().__new__(cls, line)
        step.done, step.total = done, total
        return step


HELD_OUT_FRACTION = 0.05
"""Part of the characters of a local source that is never trained on."""
HELD_OUT_CHARACTERS = 200_000
"""Least that is held out, for enough evaluation and probe batches, where that is at most `HELD_OUT_LIMIT` of all."""
HELD_OUT_LIMIT = 0.2

LOCAL_RECIPE = {
    "held_out": [HELD_OUT_FRACTION, HELD_OUT_CHARACTERS, HELD_OUT_LIMIT],
    "tokeniser": "byte-level BPE trained on the training documents",
    "version": 1,
}
"""How `LocalDocuments` are split and tokenised; part of the identity of every source that uses them."""


class Documents(Protocol):
    """An opened source."""

    @property
    def description(self) -> str:
        """One line for badges and provenance."""

    @property
    def origin(self) -> Mapping[str, Any]:
        """What was found when the source was opened and must not change while it is read: revisions, row counts."""

    def count(self, split: Split) -> int | None:
        """Documents of a split, where that is known before they have been read."""

    def read(self, split: Split, start: int, bookmark: Bookmark = None) -> Iterator[str]:
        """Documents `start`, `start + 1`, ... of a split, in the same order every time.

        Args:
            bookmark: what `bookmark(split)` said when `start` documents had been read.
        """

    def bookmark(self, split: Split) -> Bookmark:
        """Where reading the split stands: after the document that came last."""

    def tokeniser(self, vocab_size: int, progress: Progress) -> Tokenizer:
        """The tokeniser of this source with (at most, where it is trained here) `vocab_size` tokens."""


@runtime_checkable
class TokenDocuments(Protocol):
    """An opened source whose documents are tokens."""

    @property
    def description(self) -> str:
        """One line for badges and provenance."""

    @property
    def origin(self) -> Mapping[str, Any]:
        """As in `Documents`."""

    @property
    def vocab_size(self) -> int:
        """Different tokens there may be."""

    @property
    def end_of_document(self) -> int | None:
        """The token that follows a document in a stream; None where the vocabulary has none."""

    @property
    def order(self) -> Order:
        """How documents come to their queues."""

    @property
    def vocabulary(self) -> tuple[str, bytes]:
        """Name and content of the file that says what the tokens are, for the prepared folder."""

    def count(self, split: Split) -> int | None:
        """As in `Documents`."""

    def read_tokens(self, split: Split, start: int, bookmark: Bookmark = None) -> Iterator[list[np.ndarray]]:
        """Documents `start`, `start + 1`, ... of a split, each (n,) token ids, in batches that fit in memory.

        The batches from a `start` on are the same every time.
        """

    def bookmark(self, split: Split) -> Bookmark:
        """Where reading the split stands: after the last document of the batch that came last."""


class TextSource(Protocol):
    """A source as `TextData` configures it, before anything is read."""

    def identity(self) -> Mapping[str, Any]:
        """JSON that determines the documents, their order and the tokeniser, the vocabulary's size apart."""

    def open(self, *, pinned: Mapping[str, Any] | None, offline: bool, progress: Progress) -> Documents:
        """Open the source, at the `origin` that an interrupted preparation wrote down where there is one."""


def hold_out(lengths: Mapping[str, int]) -> frozenset[str]:
    """Names of the documents to hold out: those whose names hash lowest, up to about 5% of the text.

    A rank by hash is as good as a random draw and does not move when other documents come or go: only those at
    the boundary change sides.

    Args:
        lengths: characters of every document, by its name.
    """
    assert len(lengths) >= 2, "one document cannot be trained on and held out"
    ranked = sorted(lengths, key=lambda name: hashlib.sha256(name.encode()).digest())
    total = sum(lengths.values())
    wanted = max(HELD_OUT_FRACTION * total, min(HELD_OUT_CHARACTERS, HELD_OUT_LIMIT * total))
    held_out, characters = set(), 0
    for name in ranked[:-1]:
        held_out.add(name)
        characters += lengths[name]
        if characters >= wanted:
            break
    return frozenset(held_out)


@dataclass(frozen=True)
class LocalDocuments:
    """Documents in memory, by name; order is that of the mapping."""

    description: str
    texts: Mapping[str, str]
    origin: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _names(self) -> dict[Split, list[str]]:
        held_out = hold_out({name: len(text) for name, text in self.texts.items()})
        return {
            "train": [name for name in self.texts if name not in held_out],
            "eval": [name for name in self.texts if name in held_out],
        }

    def count(self, split: Split) -> int:
        return len(self._names[split])

    def read(self, split: Split, start: int, bookmark: Bookmark = None) -> Iterator[str]:
        for name in self._names[split][start:]:
            yield self.texts[name]

    def bookmark(self, split: Split) -> None:
        return None

    def tokeniser(self, vocab_size: int, progress: Progress) -> Tokenizer:
        from reproduce.data.text.tokeniser import train_bpe

        progress(f"training a tokeniser of {vocab_size:,} tokens on {self.count('train'):,} documents")
        return train_bpe(self.read("train", 0), vocab_size)
