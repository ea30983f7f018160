"""Stream packing: each row of a batch reads a queue of documents of its own, from step to step without a gap.

As the Languini kitchen trains (`languini/dataset_lib/languini_books.py`, `distribute_docs` and
`LanguiniDatasetIterator` with `repeat=True`), written as a function of (seed, step):

    d_1, ..., d_D   the documents, in an order drawn from the seed, or as they are listed (Languini Books)
    Q_r             queue of row r, one of B: d_1, d_2, ... go one after another to the queue that holds the fewest
                    tokens so far, the first of equals; in a queue each is followed by the end-of-document token
    S_r(p)          = Q_r[p mod |Q_r|], the queue read again and again
    batch(seed, t)  row r is S_r(tT), ..., S_r(tT + T - 1)

So row r of step t + 1 continues row r of step t, nothing needs to be remembered but t, and no document is read twice
before its queue is at its end. Queues differ in length by less than the longest document, and documents that come
later in the order do not move earlier ones: a prefix of the text that covers a run gives that run's batches.

Languini's sequences hold one token more, the target of their last position. Here the T tokens of a sequence give T - 1
targets, as in chunk packing: the first token of each sequence is read and not predicted.
"""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.data.arrays import new_array
from reproduce.data.order import permutation
from reproduce.data.text.corpus import TextCorpus
from reproduce.data.text.shards import TokenShards, shard_path
from reproduce.errors import OfeError

LENGTHS_FILE = "train-lengths.npy"
EVAL_ROWS = 16
"""Queues of the held-out documents: Languini's `eval_batch_size`."""


def queue_of_each(lengths: np.ndarray, rows: int) -> np.ndarray:
    """(D,) the queue to which each document goes; about 1 s for a million documents.

    Args:
        lengths: (D,) tokens of the documents without the end-of-document token, in their order.
    """
    loads = [(0, row) for row in range(rows)]
    queues = np.empty(len(lengths), np.int32)
    for number, length in enumerate(map(int, lengths)):
        load, row = loads[0]
        queues[number] = row
        heapq.heapreplace(loads, (load + length, row))
    return queues


class Queues:
    """The queues Q_r over documents on disk.

    Args:
        shards: documents that end with the end-of-document token.
        order: (D,) numbers of the documents, in the order in which they are given to the queues.
        rows: number of queues, at most D.
    """

    def __init__(self, shards: TokenShards, order: np.ndarray, rows: int) -> None:
        assert 1 <= rows <= len(order), "every queue holds a document"
        self._shards = shards
        queues = queue_of_each(shards.lengths[order] - 1, rows)
        by_queue = np.argsort(queues, kind="stable")
        self._documents = order[by_queue]
        self._bounds = np.searchsorted(queues[by_queue], np.arange(rows + 1))
        ends = np.cumsum(shards.lengths[self._documents], dtype=np.int64)
        before = np.concatenate([[0], ends])[self._bounds]
        self._ends = ends - np.repeat(before[:-1], np.diff(self._bounds))
        self.lengths: np.ndarray = np.diff(before)
        """(B,) tokens |Q_r| of each queue."""

    def read(self, row: int, start: int, count: int) -> np.ndarray:
        """S_r(start), ..., S_r(start + count - 1): (count,) int64."""
        first, last = self._bounds[row], self._bounds[row + 1]
        ends = self._ends[first:last]
        tokens = np.empty(count, np.int64)
        place = start % int(self.lengths[row])
        number = int(np.searchsorted(ends, place, side="right"))
        filled = 0
        while filled < count:
            document = int(self._documents[first + number])
            length = int(self._shards.lengths[document])
            skip = place - (int(ends[number]) - length)
            taken = min(length - skip, count - filled)
            tokens[filled : filled + taken] = self._shards.read(document, skip, skip + taken)
            filled += taken
            place += taken
            if place == ends[number]:
                number += 1
            if number == len(ends):
                number = place = 0
        return tokens


def write_held_out(path: Path, shards: TokenShards, dtype: np.dtype, seq_len: int) -> int:
    """Write the held-out documents to `path` as Languini evaluates on them: 16 queues in their order, step by step.

    Rows 0 to 15 of the (N, seq_len) array are the first step of the queues, and so on; queues without a whole sequence
    left are passed over. Fewer queues where there are fewer documents. Returns N.
    """
    rows = min(EVAL_ROWS, len(shards.lengths))
    queues = Queues(shards, np.arange(len(shards.lengths)), rows)
    steps = queues.lengths // seq_len
    turns = ((step, row) for step in range(int(steps.max())) for row in range(rows) if step < steps[row])
    with new_array(path, dtype, (int(steps.sum()), seq_len)) as whole:
        for number, (step, row) in enumerate(turns):
            whole[number] = queues.read(row, step * seq_len, seq_len)
        return len(whole)


class StreamCorpus(TextCorpus):
    """A corpus in stream packing."""

    def __init__(self, folder: Path, meta: dict[str, Any]) -> None:
        super().__init__(folder, meta)
        paths = [shard_path(folder, "train", number) for number in range(meta["shards"])]
        self._shards = TokenShards.open(paths, np.load(folder / LENGTHS_FILE))
        self._queues: tuple[tuple[int, int], Queues] | None = None

    @property
    def train_documents(self) -> int:
        return len(self._shards.lengths)

    @property
    def train_tokens(self) -> int:
        return self.meta["tokens"]["train"]

    def batches_per_epoch(self, batch_size: int) -> float:
        return self.train_tokens / (batch_size * self.seq_len)

    def batch(self, seed: int, step: int, batch_size: int) -> np.ndarray:
        queues = self.queues(seed, batch_size)
        return np.stack([queues.read(row, step * self.seq_len, self.seq_len) for row in range(batch_size)])

    def queues(self, seed: int, batch_size: int) -> Queues:
        """The queues of a run; those asked for last are kept. 24 bytes a document.

        Raises:
            OfeError: there are fewer documents than rows.
        """
        if self._queues is None or self._queues[0] != (seed, batch_size):
            count = self.train_documents
            if batch_size > count:
                raise OfeError(
                    f"a batch of {batch_size:,} rows that each read documents of their own needs more than the"
                    f" {count:,} training documents there are",
                    hint="lower batch_size, set data.packing=chunks, or use a larger source",
                )
            order = np.arange(count) if self.meta["order"] == "listed" else permutation(count, seed, 0)
            self._queues = (seed, batch_size), Queues(self._shards, order, batch_size)
        return self._queues[1]
