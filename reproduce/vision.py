"""The image-classification task: how images become inputs, batches, a loss, an evaluation and a probe.

    mlp    mean squared error against one-hot targets, over images and classes (v1 App B: "MSE loss")

Images stay bytes until a batch is asked for. Those that fit into memory lie on the device, and a batch is gathered
there; others are drawn or read on the host. Normalisation (`reproduce.data.whitening`) is done on the device.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reproduce.config import ImageData, MlpConfig, RunConfig
from reproduce.data import Images
from reproduce.data.image_set import CHANNELS, Labelled, StoredImages, epoch_rows
from reproduce.errors import OfeError
from reproduce.models.mlp import Mlp
from reproduce.models.size import positions
from reproduce.models.transformer import Observer


@dataclass(frozen=True)
class ImageBatch:
    """Inputs with what they are to be told as: examples along the first axis of each tensor."""

    inputs: Tensor
    """(B, 3, S, S) standardised, or (B, 3 S^2) whitened; float32."""
    labels: Tensor
    """(B,) int64."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> ImageBatch:
        return ImageBatch(self.inputs[part], self.labels[part])

    def split(self, size: int) -> list[ImageBatch]:
        return [self[start : start + size] for start in range(0, len(self), size)]


class ImageTask:
    """Classification of images.

    Evaluation takes the held-out images from the front, the probe batch is the last of them.

    Raises:
        OfeError: the probe batch is larger than what is held out.
    """

    def __init__(self, config: RunConfig, images: Images, device: torch.device) -> None:
        assert isinstance(config.data, ImageData)
        assert isinstance(config.model, MlpConfig)
        self.config, self.data, self.images, self.device = config, config.data, images.set, device
        self.model = Mlp(config.model, CHANNELS * self.data.side**2, self.data.classes).to(device)
        self.tokens_per_step = config.batch_size * positions(config)
        self._mean, self._scale = (torch.from_numpy(array).to(device) for array in images.normalisation)
        stored = self.images.train if isinstance(self.images, StoredImages) else None
        self._stored = None if stored is None else self._to_device(stored)
        count = self.images.test_images
        if config.probe.batch_size > count:
            raise OfeError(
                f"a probe batch of {config.probe.batch_size:,} images is more than the {count:,} held out",
                hint="lower probe.batch_size",
            )
        self._evaluation = self._held_out(0, min(config.eval.batches * config.batch_size, count), config.batch_size)
        (self._probe,) = self._held_out(count - config.probe.batch_size, count, config.probe.batch_size)

    # -- batches -----------------------------------------------------------------------------------

    def _to_device(self, labelled: Labelled) -> tuple[Tensor, Tensor]:
        images, labels = (torch.from_numpy(array).to(self.device, non_blocking=True) for array in labelled)
        return images, labels

    def _normalise(self, images: Tensor) -> Tensor:
        """Inputs of uint8 images (B, 3, S, S)."""
        x = images.float() / 255
        if self.data.whiten:
            return (x.flatten(1) - self._mean) @ self._scale
        return (x - self._mean[:, None, None]) * self._scale[:, None, None]

    def _held_out(self, start: int, stop: int, size: int) -> list[ImageBatch]:
        """Held-out images in parts of at most `size`, normalised."""
        bounds = itertools.pairwise([*range(start, stop, size), stop])
        parts = (self._to_device(self.images.test_batch(*pair)) for pair in bounds)
        return [ImageBatch(self._normalise(images), labels) for images, labels in parts]

    def batch(self, step: int) -> ImageBatch:
        """The images of the update number `step`; a function of the seed and the step alone."""
        seed, size = self.config.seed, self.config.batch_size
        if self._stored is None:
            images, labels = self._to_device(self.images.train_batch(seed, step, size))
        else:
            rows = torch.from_numpy(np.array(epoch_rows(self.images.train_images, seed, step, size))).to(self.device)
            images, labels = (tensor[rows] for tensor in self._stored)
        return ImageBatch(self._normalise(images), labels)

    def probe_batch(self, step: int) -> ImageBatch:
        """The fixed held-out batch, or the coming training batch where the configuration asks for it."""
        return self._probe if self.config.probe.on == "held-out" else self.batch(step)

    # -- what is done with them --------------------------------------------------------------------

    def loss(self, batch: ImageBatch) -> Tensor:
        """Mean loss of the images of a batch."""
        return self._loss(self.model(batch.inputs), batch)

    def _loss(self, logits: Tensor, batch: ImageBatch) -> Tensor:
        return F.mse_loss(logits, F.one_hot(batch.labels, self.data.classes).float())

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Mean loss and top-1 accuracy over the held-out images of `eval.batches` batches, or all there are."""
        losses, hits, count = 0.0, 0, 0
        for batch in self._evaluation:
            logits = self.model(batch.inputs)
            losses += float(self._loss(logits, batch)) * len(batch)
            hits += int((logits.argmax(1) == batch.labels).sum())
            count += len(batch)
        return {"loss": losses / count, "accuracy": hits / count}

    def encode(self, batch: ImageBatch, observe: Observer | None = None, blocks: int | None = None) -> Tensor:
        return self.model.encode(batch.inputs, observe, blocks)
