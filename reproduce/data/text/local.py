"""Documents of the user's own or of this machine: what is held out of them, and those that fit in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reproduce.data.progress import LeftOut, Progress
from reproduce.data.text.documents import Bookmark, Split

if TYPE_CHECKING:
    from tokenizers import Tokenizer

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


def hold_out(lengths: Mapping[str, int]) -> frozenset[str]:
    """Names of the documents to hold out: those whose names hash lowest, up to about 5% of the text.

    A rank by hash is as good as a random draw and does not move when other documents come or go: only those at
    the boundary change sides.

    Args:
        lengths: characters of every document, by its name.
    """
    assert len(lengths) >= 2, "one document cannot be trained on and held out"
    ranked = sorted(lengths, key=lambda name: hashlib.sha256(name.encode(errors="surrogateescape")).digest())
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
    """Documents in memory, by name, in the order of the mapping."""

    description: str
    texts: Mapping[str, str]
    left_out: Sequence[LeftOut] = ()
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
