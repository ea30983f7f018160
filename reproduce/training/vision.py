"""The image-classification task: how images become inputs, batches, a loss, an evaluation and a probe.

    mlp    mean squared error over images and classes (v1 App B: "MSE loss"; one-hot targets and this mean are inferred)
    vit    cross entropy with the targets (DeiT)

Targets are one-hot but for what `data.augment` does to those that are trained on. Images stay bytes until a batch is
asked for. Those that fit into memory lie on the device, and a batch is gathered there; others are drawn or read on the
host, the whole batch by each of several processes. Normalisation (`reproduce.data.images.whitening`) and augmentation
are done on the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reproduce.config import AugmentConfig, ImageData, MlpConfig, RunConfig, VitConfig
from reproduce.data import Images
from reproduce.data.images.image_set import Labelled, StoredImages
from reproduce.data.order import epoch_rows
from reproduce.errors import OfeError
from reproduce.models.mlp import Mlp
from reproduce.models.size import CHANNELS, positions
from reproduce.models.transformer import Observer
from reproduce.models.vit import Vit, drop_rates
from reproduce.parallel import group
from reproduce.training.augment import augment, kept_branches, soft_targets


@dataclass(frozen=True)
class ImageBatch:
    """Inputs with what they are to be told as: examples along the first axis of each tensor."""

    inputs: Tensor
    """(B, 3, S, S) standardised, or (B, 3 S^2) whitened; float32."""
    labels: Tensor
    """(B,) int64, of the images before they were mixed."""
    targets: Tensor
    """(B, C) float32."""
    keep: Tensor | None = None
    """(B, L, 2) factors of a vision transformer's branches; None where no image skips any."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> ImageBatch:
        keep = None if self.keep is None else self.keep[part]
        return ImageBatch(self.inputs[part], self.labels[part], self.targets[part], keep)


def build_model(config: RunConfig) -> Mlp | Vit:
    """The model of a run on images, drawn from torch's current generator."""
    data = config.data
    assert isinstance(data, ImageData)
    if isinstance(config.model, MlpConfig):
        return Mlp(config.model, CHANNELS * data.side**2, data.classes)
    assert isinstance(config.model, VitConfig)
    return Vit(config.model, data.side, data.classes)


class ImageTask:
    """Classification of images.

    Evaluation takes the held-out images from the front, the probe batch is the last of them.

    Raises:
        OfeError: the probe batch is larger than what is held out.
    """

    def __init__(self, config: RunConfig, images: Images, device: torch.device) -> None:
        assert isinstance(config.data, ImageData)
        self.config, self.data, self.images, self.device = config, config.data, images.set, device
        self.model = build_model(config).to(device)
        self.augment = self.data.augment
        self.rates = drop_rates(config.model) if isinstance(config.model, VitConfig) else []
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
        self._probe = self._held_out(count - config.probe.batch_size, count)
        # Whitening costs more than the model's forward pass: held-out images are whitened once.
        self._whitened = list(self._evaluation()) if self.data.whiten else None
        self._hits = torch.zeros((), dtype=torch.int64, device=device)
        self._seen = 0

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

    def _held_out(self, start: int, stop: int) -> ImageBatch:
        images, labels = self._to_device(self.images.test_batch(start, stop))
        return ImageBatch(self._normalise(images), labels, soft_targets(labels, self.data.classes, 0.0))

    def _evaluation(self) -> Iterator[ImageBatch]:
        """The held-out images of `eval.batches` batches, or all there are, batch by batch."""
        size = self.config.batch_size
        stop = min(self.config.eval.batches * size, self.images.test_images)
        for start in range(0, stop, size):
            yield self._held_out(start, min(start + size, stop))

    def batch(self, step: int) -> ImageBatch:
        """The images of the update number `step`; a function of the seed and the step alone."""
        seed, size = self.config.seed, self.config.batch_size
        if self._stored is None:
            images, labels = self._to_device(self.images.train_batch(seed, step, size))
        else:
            rows = torch.from_numpy(np.array(epoch_rows(self.images.train_images, seed, step, size))).to(self.device)
            images, labels = (tensor[rows] for tensor in self._stored)
        inputs, targets = self._normalise(images), soft_targets(labels, self.data.classes, self.augment.label_smoothing)
        if self.augment != AugmentConfig():
            inputs, targets = augment(inputs, targets, self.augment, seed, step)
        keep = kept_branches(len(labels), self.rates, seed, step).to(self.device) if any(self.rates) else None
        return ImageBatch(inputs, labels, targets, keep)

    def probe_batch(self, step: int) -> ImageBatch:
        """The fixed held-out batch, or the coming training batch where the configuration asks for it."""
        return self._probe if self.config.probe.on == "held-out" else self.batch(step)

    # -- what is done with them --------------------------------------------------------------------

    def loss(self, batch: ImageBatch) -> Tensor:
        """Mean loss of the images of a training batch; zero without any, for a process that the batch has none for."""
        logits = self.model(batch.inputs) if batch.keep is None else self.model(batch.inputs, batch.keep)
        if not len(batch):
            return logits.sum()
        self._hits += (logits.detach().argmax(1) == batch.labels).sum()
        self._seen += len(batch)
        return self._loss(logits, batch)

    def _loss(self, logits: Tensor, batch: ImageBatch) -> Tensor:
        if isinstance(self.config.model, MlpConfig):
            return F.mse_loss(logits, batch.targets)
        return F.cross_entropy(logits, batch.targets)

    def train_metrics(self) -> dict[str, float]:
        """Top-1 accuracy over the training images since the last call, of all processes, as they were shown."""
        hits, seen = group.total(torch.tensor([int(self._hits), self._seen])).tolist()
        self._hits.zero_()
        self._seen = 0
        return {"accuracy": hits / seen}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Mean loss and top-1 accuracy over the held-out images of `eval.batches` batches, or all there are."""
        losses, hits, count = 0.0, 0, 0
        for batch in self._evaluation() if self._whitened is None else self._whitened:
            logits = self.model(batch.inputs)
            losses += float(self._loss(logits, batch)) * len(batch)
            hits += int((logits.argmax(1) == batch.labels).sum())
            count += len(batch)
        return {"loss": losses / count, "accuracy": hits / count}

    def encode(self, batch: ImageBatch, observe: Observer | None = None, blocks: int | None = None) -> Tensor:
        return self.model.encode(batch.inputs, observe, blocks)
