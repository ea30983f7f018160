"""The order in which examples are read: permutations drawn from a seed, and the place of a step in its epoch."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np


@lru_cache(maxsize=4)
def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """Order of `count` items in an epoch: (count,) int64, read-only; about 0.3 s for 2.5 million.

    Philox keyed by (seed, epoch) draws one word an item, and the items are sorted by it. Unlike the methods of
    `numpy.random.Generator`, the raw stream of a bit generator is the same in every release of NumPy.
    """
    bits = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64))
    order = np.argsort(bits.random_raw(count), kind="stable")
    order.setflags(write=False)
    return order


class Place(NamedTuple):
    """Where a step stands: the epoch, and which of its images make the batch."""

    epoch: int
    start: int
    stop: int


def place(count: int, step: int, batch_size: int) -> Place:
    """Place of `step` among epochs of `count` images in ceil(count / batch_size) steps each."""
    epoch, position = divmod(step, math.ceil(count / batch_size))
    return Place(epoch, position * batch_size, min((position + 1) * batch_size, count))


def epoch_rows(count: int, seed: int, step: int, batch_size: int) -> np.ndarray:
    """Numbers of the images in the batch of `step`: a stretch of the permutation f(seed, epoch) of all `count`."""
    at = place(count, step, batch_size)
    return permutation(count, seed, at.epoch)[at.start : at.stop]
