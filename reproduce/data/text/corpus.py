"""A prepared corpus: exact sequences of tokens on disk, served in an order that is a function of (seed, step).

TextCorpus      what every packing offers: batches for training, evaluation and probes
ChunkCorpus     chunk packing: every sequence lies within a document, and every epoch permutes them
StreamCorpus    stream packing, in `reproduce.data.text.stream`
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.data.order import permutation
from reproduce.errors import OfeError


class TextCorpus(ABC):
    """Sequences for training, evaluation and probes, of `seq_len` tokens each.

    Args:
        folder: a prepared folder, as `reproduce.data.text.prepare` writes it.
        meta: its verified `meta.json`.
    """

    def __init__(self, folder: Path, meta: dict[str, Any]) -> None:
        self.folder, self.meta = folder, meta
        self._eval = np.load(folder / "eval.npy", mmap_mode="r")

    @property
    def fingerprint(self) -> str:
        return self.meta["fingerprint"]

    @property
    def description(self) -> str:
        """What the text is, in one line."""
        return self.meta["description"]

    @property
    def vocab_size(self) -> int:
        """Tokens of the tokeniser; at most the `vocab_size` of the configuration, fewer where the text is short."""
        return self.meta["vocab_size"]

    @property
    def seq_len(self) -> int:
        return self._eval.shape[1]

    @property
    def eval_sequences(self) -> int:
        """Held-out sequences; the first half serves evaluation, the second half probes."""
        return len(self._eval)

    @abstractmethod
    def batches_per_epoch(self, batch_size: int) -> float:
        """Steps in which the training text is seen once; not whole, as batches run on across epochs."""

    @abstractmethod
    def batch(self, seed: int, step: int, batch_size: int) -> np.ndarray:
        """The training batch of a step: (batch_size, seq_len) int64, a function of its arguments only.

        Raises:
            OfeError: the batch has more rows than the packing can serve.
        """

    def eval_batch(self, index: int, batch_size: int) -> np.ndarray:
        """Batch `index` of the evaluation sequences: (batch_size, seq_len) int64, always in the same order.

        Raises:
            OfeError: there are too few evaluation sequences.
        """
        evaluation = self.eval_sequences // 2
        end = (index + 1) * batch_size
        if end > evaluation:
            raise OfeError(
                f"{index + 1:,} evaluation batches of {batch_size:,} need {end:,} sequences of {evaluation:,}",
                hint="lower eval.batches, batch_size or data.seq_len, or use a larger source",
            )
        return self._eval[end - batch_size : end].astype(np.int64)

    def probe_batch(self, batch_size: int) -> np.ndarray:
        """The probe batch: (batch_size, seq_len) int64, held out and apart from the evaluation batches.

        Raises:
            OfeError: there are too few probe sequences.
        """
        start = self.eval_sequences // 2
        available = self.eval_sequences - start
        if batch_size > available:
            raise OfeError(
                f"a probe batch of {batch_size:,} sequences is more than the {available:,} held out for it",
                hint="lower probe.batch_size or data.seq_len, or use a larger source",
            )
        return self._eval[start : start + batch_size].astype(np.int64)


class ChunkCorpus(TextCorpus):
    """A corpus in chunk packing: every sequence comes once an epoch, and each epoch has an order of its own."""

    def __init__(self, folder: Path, meta: dict[str, Any]) -> None:
        super().__init__(folder, meta)
        self._train = np.load(folder / "train.npy", mmap_mode="r")

    @property
    def train_sequences(self) -> int:
        return len(self._train)

    def batches_per_epoch(self, batch_size: int) -> float:
        return self.train_sequences / batch_size

    def batch(self, seed: int, step: int, batch_size: int) -> np.ndarray:
        count = self.train_sequences
        if batch_size > count:
            raise OfeError(
                f"a batch of {batch_size:,} sequences is more than the {count:,} training sequences there are",
                hint="lower batch_size or data.seq_len, or use a larger source",
            )
        epochs, places = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), count)
        chosen = [permutation(count, seed, int(epoch))[places[epochs == epoch]] for epoch in np.unique(epochs)]
        return self._train[np.concatenate(chosen)].astype(np.int64)
