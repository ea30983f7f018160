"""Patches of photographs, drawn as a function of (seed, step); what they are is told in `sources.photo_patches`."""

from __future__ import annotations

from typing import Literal

import numpy as np

from reproduce.data.images.image_set import Labelled
from reproduce.data.order import place

TEST_IMAGES = 10_000
FITTING_IMAGES = 20_000
"""Training patches that whitening is fitted on: several times the 3,072 values of one."""

_Purpose = Literal["train", "test", "fitting"]
_COUNTERS: dict[_Purpose, int] = {"train": 0, "test": 1, "fitting": 2}
"""Highest word of Philox's counter: streams of different purpose never meet."""


class Patches:
    """Patches of photographs (P, H, W, 3), each of which is cut into strips that are its classes.

    Args:
        description: one line for badges.
        side: rows and columns S of a patch.
        train_images: patches of an epoch.
        strips: upright strips of equal width of each photograph.
        rows: rows of a band, of which there are as many as fit: those to train on, and those below that are held out.
    """

    test_images = TEST_IMAGES

    def __init__(
        self,
        description: str,
        photographs: np.ndarray,
        side: int,
        train_images: int,
        *,
        strips: int,
        rows: tuple[int, int],
    ) -> None:
        self.description, self.side, self.train_images = description, side, train_images
        count, height, width, _ = photographs.shape
        self._strips, self._classes, self._columns = strips, strips * count, width // strips
        self._rows, self._bands = rows, height // sum(rows)
        # Every patch of all photographs, as views: (P, H + 1 - S, W + 1 - S, 3, S, S).
        self._windows = np.lib.stride_tricks.sliding_window_view(photographs, (side, side), axis=(1, 2))
        self._test: Labelled | None = None

    def train_batch(self, seed: int, step: int, batch_size: int) -> Labelled:
        """As many fresh patches as the batch of `step` has in an epoch of `train_images`."""
        at = place(self.train_images, step, batch_size)
        return self._draw(at.stop - at.start, "train", seed, step)

    def test_batch(self, start: int, stop: int) -> Labelled:
        if self._test is None:
            self._test = self._draw(TEST_IMAGES, "test", 0, 0)
        return Labelled(self._test.images[start:stop], self._test.labels[start:stop])

    def fitting_images(self) -> np.ndarray:
        return self._draw(FITTING_IMAGES, "fitting", 0, 0).images

    def _draw(self, count: int, purpose: _Purpose, seed: int, step: int) -> Labelled:
        """`count` patches, class, place and mirroring uniform.

        The raw words of Philox, keyed by (seed, step), are the same in every release of NumPy.
        """
        key = np.array([seed, step], dtype=np.uint64)
        counter = np.array([0, 0, 0, _COUNTERS[purpose]], dtype=np.uint64)
        words = np.random.Philox(key=key, counter=counter).random_raw(5 * count).reshape(count, 5)
        training, held_out = self._rows
        first_row, rows = (training, held_out) if purpose == "test" else (0, training)
        label, band, row, column, mirrored = (
            (words[:, index] % np.uint64(size)).astype(np.int64)
            for index, size in enumerate(
                (self._classes, self._bands, rows - self.side + 1, self._columns - self.side + 1, 2)
            )
        )
        photograph, strip = np.divmod(label, self._strips)
        images = self._windows[photograph, band * sum(self._rows) + first_row + row, strip * self._columns + column]
        flips = mirrored.astype(bool)
        images[flips] = images[flips, :, :, ::-1]
        return Labelled(images, label)
