"""Labelled images as a task reads them: a training batch is a function of (seed, step), held-out ones are fixed.

Images are uint8 (N, 3, S, S), channels first as CIFAR-10 stores them; labels are int64 (N,). An epoch passes over all
training images once, in a permutation of its own, and ends with a smaller batch where the batch size does not divide
their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from reproduce.data.order import epoch_rows, permutation
from reproduce.errors import OfeError


class Labelled(NamedTuple):
    """Images with the number of the class of each."""

    images: np.ndarray
    """(N, 3, S, S) uint8."""
    labels: np.ndarray
    """(N,) int64."""


def checked_labels(labels: Sequence[object], classes: int, what: str) -> np.ndarray:
    """Labels as (N,) int64.

    Args:
        what: what an error calls the images.

    Raises:
        OfeError: one of them is no number from 0 to `classes` - 1.
    """
    for row, label in enumerate(labels):
        if not isinstance(label, int | np.integer) or not 0 <= int(label) < classes:
            raise OfeError(
                f"the label of image {row:,} of {what} is {label!r}, not a number from 0 to {classes - 1:,}",
                hint="take a fresh copy",
            )
    return np.array(labels, np.int64)


class ImageSet(Protocol):
    """Opened images of a source."""

    @property
    def description(self) -> str:
        """One line for badges and provenance."""

    @property
    def train_images(self) -> int:
        """Images in an epoch."""

    @property
    def test_images(self) -> int:
        """Held-out images."""

    def train_batch(self, seed: int, step: int, batch_size: int) -> Labelled:
        """The training batch of a step, a function of its arguments alone."""

    def test_batch(self, start: int, stop: int) -> Labelled:
        """Held-out images `start`, ..., `stop - 1` of an order that is always the same."""

    def fitting_images(self) -> np.ndarray:
        """Training images (N, 3, S, S) on whose statistics whitening and standardisation rest."""


class StoredImages:
    """Images that all fit into memory.

    Held-out images come in a permutation of their own, so that a part of them is a fair sample of all.
    """

    def __init__(self, description: str, train: Labelled, test: Labelled) -> None:
        self.description, self.train = description, train
        order = permutation(len(test.labels), 0, 0)
        self.test = Labelled(test.images[order], test.labels[order])

    @property
    def train_images(self) -> int:
        return len(self.train.labels)

    @property
    def test_images(self) -> int:
        return len(self.test.labels)

    def train_batch(self, seed: int, step: int, batch_size: int) -> Labelled:
        rows = epoch_rows(self.train_images, seed, step, batch_size)
        return Labelled(self.train.images[rows], self.train.labels[rows])

    def test_batch(self, start: int, stop: int) -> Labelled:
        return Labelled(self.test.images[start:stop], self.test.labels[start:stop])

    def fitting_images(self) -> np.ndarray:
        return self.train.images
