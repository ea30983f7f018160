"""Which examples of a batch are whose, and in which parts they go through the model.

The batch of a step is a function of the seed and the step. Every process knows it whole and takes the examples that
are its own, in their order: a run on N devices and one with N accumulation steps see the same batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

from reproduce.parallel import group


class Batch(Protocol):
    """Examples along the first axis: a tensor, or whatever else can be counted and sliced."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> Any: ...


B = TypeVar("B", bound=Batch)


def shared_parts(batch: B, size: int | None) -> list[B]:
    """This process's examples of `batch`, in parts of at most `size`; equally many parts everywhere.

    A batch need not be a multiple of the number of processes (a probe batch, the last images of an epoch): parts differ
    by one example at most, and may be empty.
    """
    begin, end = _cut(len(batch), group.size(), group.rank())
    largest = math.ceil(len(batch) / group.size())
    count = 1 if size is None else math.ceil(largest / size)
    return [batch[begin + first : begin + last] for first, last in _cuts(end - begin, count)]


def _cuts(length: int, count: int) -> Iterator[tuple[int, int]]:
    return (_cut(length, count, index) for index in range(count))


def _cut(length: int, count: int, index: int) -> tuple[int, int]:
    """Begin and end of the part `index`, when `length` examples are cut into `count` nearly equal parts."""
    return length * index // count, length * (index + 1) // count
