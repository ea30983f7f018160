"""What a corpus is made from: documents, some of which are held out, and a tokeniser.

TextSource      knows what it would read (cheap: this gives the fingerprint) and can open it
Documents       an opened source: documents of each split in a fixed order, and the tokeniser
LocalDocuments  the Documents that fit in memory, with a tokeniser trained on the training split
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Split = Literal["train", "eval"]
SPLITS: tuple[Split, ...] = ("train", "eval")
Progress = Callable[[str], None]

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

    def count(self, split: Split) -> int:
        """Documents of a split."""

    def read(self, split: Split, start: int) -> Iterator[str]:
        """Documents `start`, `start + 1`, ... of a split, in the same order every time."""

    def tokeniser(self, vocab_size: int, progress: Progress) -> Tokenizer:
        """The tokeniser of this source with (at most, where it is trained here) `vocab_size` tokens."""


class TextSource(Protocol):
    """A source as `TextData` configures it, before anything is read."""

    def identity(self) -> Mapping[str, Any]:
        """JSON that determines the documents, their order and the tokeniser, the vocabulary's size apart."""

    def open(self, *, pinned: Mapping[str, Any] | None, offline: bool, progress: Progress) -> Documents:
        """Open the source, at the `origin` that an interrupted preparation wrote down where there is one."""


def hold_out(texts: Mapping[str, str]) -> frozenset[str]:
    """Names of the documents to hold out: those whose names hash lowest, up to about 5% of the text.

    A rank by hash is as good as a random draw and does not move when other documents come or go: only those at
    the boundary change sides.
    """
    assert len(texts) >= 2, "one document cannot be trained on and held out"
    ranked = sorted(texts, key=lambda name: hashlib.sha256(name.encode()).digest())
    total = sum(map(len, texts.values()))
    wanted = max(HELD_OUT_FRACTION * total, min(HELD_OUT_CHARACTERS, HELD_OUT_LIMIT * total))
    held_out, characters = set(), 0
    for name in ranked[:-1]:
        held_out.add(name)
        characters += len(texts[name])
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
        held_out = hold_out(self.texts)
        return {
            "train": [name for name in self.texts if name not in held_out],
            "eval": [name for name in self.texts if name in held_out],
        }

    def count(self, split: Split) -> int:
        return len(self._names[split])

    def read(self, split: Split, start: int) -> Iterator[str]:
        for name in self._names[split][start:]:
            yield self.texts[name]

    def tokeniser(self, vocab_size: int, progress: Progress) -> Tokenizer:
        from reproduce.data.tokeniser import train_bpe

        progress(f"training a tokeniser of {vocab_size:,} tokens on {self.count('train'):,} documents")
        return train_bpe(self.read("train", 0), vocab_size)
