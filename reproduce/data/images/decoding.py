"""Images too many for memory: read, cropped and resized one by one, while the step before is being trained.

    held out      the central square of 0.875 of the shorter side, resized (224 of 256 pixels, as DeiT evaluates)
    trained on    the same; or, with `data.augment.crop`, a rectangle of 8 to 100 % of the area, aspect 3/4 to 4/3

The rectangle is the first of ten draws that fits into the image, else the central square, as in torchvision's
RandomResizedCrop. Resizing is bicubic with antialiasing. Decoding leaves Python's lock, so threads share the work; the
batch after the one asked for is begun at once. What a batch holds depends on seed and step alone.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Protocol

import numpy as np
from PIL import Image

from reproduce.data.images.image_set import Labelled
from reproduce.data.order import epoch_rows, permutation
from reproduce.errors import OfeError

CENTRE = 0.875
AREA = (0.08, 1.0)
ASPECT = 4 / 3
"""Of the widest rectangle; the tallest has its inverse."""
TRIES = 10
FITTING_IMAGES = 2_000
"""Training images, evenly spaced, on whose statistics standardisation rests."""

Box = tuple[float, float, float, float]
"""Left, upper, right, lower edge in pixels."""


class Files(Protocol):
    """The encoded images of a split."""

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64."""

    def name(self, row: int) -> str:
        """What an error calls the image."""

    def read(self, row: int) -> bytes:
        """Its file's content."""


class ImageFiles:
    """Images of `train` and `test` at side `side`."""

    def __init__(self, description: str, train: Files, test: Files, side: int, *, crop: bool) -> None:
        self.description, self.side, self.crop = description, side, crop
        self._train, self._test = train, test
        self._order = permutation(len(test.labels), 0, 0)
        self._ahead: dict[tuple[int, int, int], list[Future[np.ndarray]]] = {}

    @cached_property
    def _readers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(min(32, os.cpu_count() or 1), "read-images")

    @property
    def train_images(self) -> int:
        return len(self._train.labels)

    @property
    def test_images(self) -> int:
        return len(self._test.labels)

    def train_batch(self, seed: int, step: int, batch_size: int) -> Labelled:
        images = self._ahead.pop((seed, step, batch_size), None) or self._begin(seed, step, batch_size)
        self._ahead = {(seed, step + 1, batch_size): self._begin(seed, step + 1, batch_size)}
        rows = epoch_rows(self.train_images, seed, step, batch_size)
        return Labelled(np.stack([image.result() for image in images]), self._train.labels[rows])

    def _begin(self, seed: int, step: int, batch_size: int) -> list[Future[np.ndarray]]:
        rows = epoch_rows(self.train_images, seed, step, batch_size).tolist()
        draws = _draws(len(rows), seed, step) if self.crop else [None] * len(rows)
        return [self._readers.submit(self._image, self._train, *pair) for pair in zip(rows, draws, strict=True)]

    def test_batch(self, start: int, stop: int) -> Labelled:
        rows = self._order[start:stop]
        images = self._readers.map(lambda row: self._image(self._test, row, None), rows.tolist())
        return Labelled(np.stack(list(images)), self._test.labels[rows])

    def fitting_images(self) -> np.ndarray:
        count = min(FITTING_IMAGES, self.train_images)
        rows = np.linspace(0, self.train_images - 1, count).astype(int).tolist()
        return np.stack(list(self._readers.map(lambda row: self._image(self._train, row, None), rows)))

    def _image(self, files: Files, row: int, draws: np.ndarray | None) -> np.ndarray:
        """One image, (3, S, S) uint8, cropped by (10, 4) uniform numbers or to its centre."""
        try:
            with Image.open(io.BytesIO(files.read(row))) as image:
                box = centre_box(*image.size) if draws is None else random_box(*image.size, draws)
                resized = image.convert("RGB").resize((self.side, self.side), Image.Resampling.BICUBIC, box=box)
        except (OSError, Image.DecompressionBombError) as error:
            raise OfeError(
                f"{files.name(row)} cannot be read as an image: {error}", hint="restore that file"
            ) from error
        return np.asarray(resized).transpose(2, 0, 1)


def _draws(count: int, seed: int, step: int) -> Sequence[np.ndarray]:
    """Uniform numbers (10, 4) of [0, 1) for each of `count` images."""
    key, counter = np.array([seed, step], np.uint64), np.array([0, 0, 0, 3], np.uint64)
    words = np.random.Philox(key=key, counter=counter).random_raw(count * TRIES * 4)
    return list((words / 2.0**64).reshape(count, TRIES, 4))


def centre_box(width: int, height: int) -> Box:
    """The central square of 0.875 of the shorter side."""
    half = CENTRE * min(width, height) / 2
    return width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half


def random_box(width: int, height: int, draws: np.ndarray) -> Box:
    """The first rectangle that fits: its area, aspect, left and upper edge from the columns of `draws` (10, 4)."""
    for area, aspect, left, upper in draws.tolist():
        pixels = (AREA[0] + (AREA[1] - AREA[0]) * area) * width * height
        ratio = ASPECT ** (2 * aspect - 1)
        wide, high = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < wide <= width and 0 < high <= height:
            x, y = math.floor(left * (width - wide + 1)), math.floor(upper * (height - high + 1))
            return x, y, x + wide, y + high
    return centre_box(width, height)
