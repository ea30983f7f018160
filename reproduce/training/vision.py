"""The image-classification task: batches of images, their loss, the held-out evaluation and the probe batch.

    mlp    mean squared error over images and classes (v1 App B: "MSE loss"; one-hot targets and this mean are inferred)
    vit    cross entropy with the targets (DeiT)

Targets are one-hot, except where `data.augment` smooths or mixes those of training images. Images are kept as uint8
until they are used. Data that fit into memory are kept on the device, where batches are gathered. Other images are
drawn or read on the host, and each process of a group reads the whole batch. Normalisation
(`reproduce.data.images.whitening`) and augmentation are done on the device.

B is the number of images in a batch, S the side of an image in pixels, C the number of classes, L that of blocks.
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
    """Images with their labels and targets. The first axis of each tensor counts the examples."""

    inputs: Tensor
    """Model inputs in float32: standardised images (B, 3, S, S), or whitened ones (B, 3 S^2)."""
    labels: Tensor
    """Class indices (B,) int64. Mixup and cutmix do not change them."""
    targets: Tensor
    """Targets of the loss (B, C) float32."""
    keep: Tensor | None = None
    """Factors (B, L, 2) of stochastic depth for a vision transformer's branches, or None if no branch is skipped."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> ImageBatch:
        keep = None if self.keep is None else self.keep[part]
        return ImageBatch(self.inputs[part], self.labels[part], self.targets[part], keep)


def build_model(config: RunConfig) -> Mlp | Vit:
    """The model of a run on images. Its initialisation is drawn from torch's global generator."""
    data = config.data
    assert isinstance(data, ImageData)
    if isinstance(config.model, MlpConfig):
        return Mlp(config.model, CHANNELS * data.side**2, data.classes)
    assert isinstance(config.model, VitConfig)
    return Vit(config.model, data.side, data.classes)


class ImageTask:
    """Classification of images.

    Evaluation reads the held-out images from the first on, and the probe batch consists of the last ones. The two
    overlap only if evaluation reads more than all the others.

    Raises:
        OfeError: the probe batch is larger than the set of held-out images.
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
        # Whitening is a product with a (3 S^2, 3 S^2) matrix, which costs more than the MLP's forward pass. So held-out
        # images are whitened once and kept.
        self._whitened = list(self._evaluation()) if self.data.whiten else None
        self._hits = torch.zeros((), dtype=torch.int64, device=device)
        self._seen = 0

    # -- batches -----------------------------------------------------------------------------------

    def _to_device(self, labelled: Labelled) -> tuple[Tensor, Tensor]:
        images, labels = (torch.from_numpy(array).to(self.device, non_blocking=True) for array in labelled)
        return images, labels

    def _normalise(self, images: Tensor) -> Tensor:
        """Model inputs in float32, from uint8 images (B, 3, S, S): -> (B, 3, S, S), or (B, 3 S^2) if whitened."""
        x = images.float() / 255
        if self.data.whiten:
            return (x.flatten(1) - self._mean) @ self._scale  # mean (3 S^2,), scale (3 S^2, 3 S^2)
        # Mean and scale are (3,), one number for each channel.
        return (x - self._mean[:, None, None]) * self._scale[:, None, None]

    def _held_out(self, start: int, stop: int) -> ImageBatch:
        """The held-out images from `start` to before `stop`, without augmentation."""
        images, labels = self._to_device(self.images.test_batch(start, stop))
        return ImageBatch(self._normalise(images), labels, soft_targets(labels, self.data.classes, 0.0))

    def _evaluation(self) -> Iterator[ImageBatch]:
        """The held-out images in batches: `eval.batches` of them, or fewer where the images run out."""
        size = self.config.batch_size
        stop = min(self.config.eval.batches * size, self.images.test_images)
        for start in range(0, stop, size):
            yield self._held_out(start, min(start + size, stop))

    def batch(self, step: int) -> ImageBatch:
        """The augmented training images of update number `step`. They depend on the seed and the step alone."""
        seed, size = self.config.seed, self.config.batch_size
        if self._stored is None:
            images, labels = self._to_device(self.images.train_batch(seed, step, size))
        else:
            rows = torch.from_numpy(np.array(epoch_rows(self.images.train_images, seed, step, size))).to(self.device)
            images, labels = (tensor[rows] for tensor in self._stored)
        # Crops are part of reading an image. All other augmentation acts on normalised images.
        inputs, targets = self._normalise(images), soft_targets(labels, self.data.classes, self.augment.label_smoothing)
        if self.augment != AugmentConfig():
            inputs, targets = augment(inputs, targets, self.augment, seed, step)
        keep = kept_branches(len(labels), self.rates, seed, step).to(self.device) if any(self.rates) else None
        return ImageBatch(inputs, labels, targets, keep)

    def probe_batch(self, step: int) -> ImageBatch:
        """The fixed held-out batch. With `probe.on: train-batch`, the training batch of update number `step`."""
        return self._probe if self.config.probe.on == "held-out" else self.batch(step)

    # -- loss and evaluation -----------------------------------------------------------------------

    def loss(self, batch: ImageBatch) -> Tensor:
        """Mean loss over the images of a training batch, -> (). It counts towards `train_metrics`.

        A batch without images has loss 0. It occurs where the last batch of an epoch has fewer images than there are
        processes.
        """
        logits = self.model(batch.inputs) if batch.keep is None else self.model(batch.inputs, batch.keep)
        if not len(batch):
            return logits.sum()  # 0, and still a function of the weights, so that the backward pass meets the others'
        self._hits += (logits.detach().argmax(1) == batch.labels).sum()
        self._seen += len(batch)
        return self._loss(logits, batch)

    def _loss(self, logits: Tensor, batch: ImageBatch) -> Tensor:
        if isinstance(self.config.model, MlpConfig):
            return F.mse_loss(logits, batch.targets)  # the mean over B and C, as torch's default
        return F.cross_entropy(logits, batch.targets)

    def train_metrics(self) -> dict[str, float]:
        """Top-1 accuracy over the augmented training images of all processes since the last call."""
        hits, seen = group.total(torch.tensor([int(self._hits), self._seen])).tolist()
        self._hits.zero_()
        self._seen = 0
        return {"accuracy": hits / seen}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Mean loss and top-1 accuracy over the held-out images of `eval.batches` batches, or all there are.

        Every process of a group evaluates all of them, and gets the same result.
        """
        losses, hits, count = 0.0, 0, 0
        for batch in self._evaluation() if self._whitened is None else self._whitened:
            logits = self.model(batch.inputs)
            losses += float(self._loss(logits, batch)) * len(batch)  # weighted, since the last batch may be smaller
            hits += int((logits.argmax(1) == batch.labels).sum())
            count += len(batch)
        return {"loss": losses / count, "accuracy": hits / count}

    def encode(self, batch: ImageBatch, observe: Observer | None = None, blocks: int | None = None) -> Tensor:
        """The residual stream after `blocks` blocks, or the input of the readout if None, see the model's `encode`.

        No branch is skipped here, although `batch` may be a training batch with factors `keep`.
        """
        return self.model.encode(batch.inputs, observe, blocks)
