"""Augmentation of a batch of training images: mirroring, erasing, mixing, label smoothing, stochastic depth.

    flip        Each image is mirrored with probability 1/2.
    erase       With probability p, a rectangle of an image becomes N(0, 1) noise. It covers 2 to 33 % of the area and
                has an aspect ratio from 0.3 to 1/0.3.
    smooth      target = (1 - s) one-hot + s / C
    mixup       x <- w x + (1 - w) x', and targets likewise, with w ~ Beta(alpha, alpha). x' is the batch in reverse
                order.
    cutmix      A rectangle with a share 1 - w of the area is replaced by the same rectangle of x'. Targets are mixed by
                the area that was in fact replaced.
    keep        Stochastic depth: the factor of each image and branch is 0 with probability p, and else 1 / (1 - p).

The steps are applied in this order to normalised images. The constants are those of DeiT's recipe (Touvron et al. 2021,
Table 9) and of timm, which DeiT uses. One w is drawn for the whole batch. Where both mixup and cutmix are on, a fair
coin chooses between them, which is timm's default. RandAugment, repeated augmentation and the moving average of the
weights, which the recipe has too, are left out. A rectangle of `erase` that does not fit is clipped to the image, where
timm draws another one.

Everything here is a function of (seed, step): numbers come from Philox on the host, and noise from a generator of the
device that is seeded by them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reproduce.config import AugmentConfig

ERASED_AREA = (0.02, 1 / 3)
"""Smallest and largest share of the image's area that an erased rectangle covers."""
ERASED_ASPECT = 0.3
"""Height over width of the flattest erased rectangle. The most upright one has the inverse."""


def generator(seed: int, step: int, purpose: int) -> np.random.Generator:
    """Random numbers of one step, independent for each `purpose`."""
    # The purpose is the highest word of Philox's 256-bit counter, so that two streams of one key never overlap.
    counter = np.array([0, 0, 0, purpose], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array([seed, step], dtype=np.uint64), counter=counter))


def soft_targets(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Smoothed one-hot targets of the labels, (B,) int64 -> (B, C) float32."""
    return F.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes


def augment(images: Tensor, targets: Tensor, config: AugmentConfig, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Augmented images (B, 3, S, S) and targets (B, C). What the configuration leaves off is not applied."""
    # All numbers come from one stream, so the order of the draws below is part of what a run's key stands for.
    draw = generator(seed, step, 1)
    if config.flip:
        mirrored = torch.from_numpy(draw.random(len(images)) < 0.5).to(images.device)
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    if config.erase:
        images = erase(images, config.erase, draw)
    if config.mixup or config.cutmix:
        cut = draw.random() < 0.5 if config.mixup and config.cutmix else bool(config.cutmix)
        alpha = config.cutmix if cut else config.mixup
        weight = float(draw.beta(alpha, alpha))  # share of each image's own content; the rest is its partner's
        images, weight = cutmix(images, weight, draw) if cut else (torch.lerp(images.flip(0), images, weight), weight)
        targets = torch.lerp(targets.flip(0), targets, weight)
    return images, targets


def erase(images: Tensor, probability: float, draw: np.random.Generator) -> Tensor:
    """Images (B, 3, S, S), in which a rectangle of some is replaced by noise (random erasing)."""
    count, side = len(images), images.shape[-1]
    area = draw.uniform(*ERASED_AREA, count) * side**2
    aspect = ERASED_ASPECT ** draw.uniform(-1, 1, count)  # log-uniform, so that flat and upright are equally likely
    height, width = (
        np.clip(np.round(np.sqrt(area * ratio)), 1, side).astype(np.int64) for ratio in (aspect, 1 / aspect)
    )
    top, left = (np.floor(draw.random(count) * (side - extent + 1)).astype(np.int64) for extent in (height, width))
    # A spared image has an empty rectangle. Every image takes its numbers, so that `probability` shifts no later draw.
    height[draw.random(count) >= probability] = 0
    noise = torch.Generator(images.device).manual_seed(int(draw.integers(2**62)))
    noisy = torch.randn(images.shape, generator=noise, device=images.device, dtype=images.dtype)
    return torch.where(rectangles(side, top, left, height, width, images.device), noisy, images)


def cutmix(images: Tensor, weight: float, draw: np.random.Generator) -> tuple[Tensor, float]:
    """Replace one rectangle of all images by that of the batch in reverse order.

    Args:
        images: (B, 3, S, S).
        weight: share of the area that is to remain an image's own.

    Returns:
        The mixed images (B, 3, S, S), and the share of the area that did remain their own. It is larger than `weight`
        where the rectangle reached beyond the border and was clipped.
    """
    side = images.shape[-1]
    extent = side * np.sqrt(1 - weight)
    centre = draw.integers(side, size=2)
    low, high = (np.clip(np.round(centre + sign * extent / 2), 0, side).astype(np.int64) for sign in (-1, 1))
    inside = rectangles(side, low[:1], low[1:], (high - low)[:1], (high - low)[1:], images.device)
    return torch.where(inside, images.flip(0), images), 1 - float(np.prod(high - low)) / side**2


def rectangles(
    side: int, top: np.ndarray, left: np.ndarray, height: np.ndarray, width: np.ndarray, device: torch.device
) -> Tensor:
    """A mask (B, 1, S, S) that is true inside the rectangle of each image.

    Args:
        side: S, the side of the images in pixels.
        top: first row (B,) of each rectangle, and so on; with B = 1 one rectangle serves all images.
    """
    place = torch.arange(side, device=device)
    first_row, first_column, rows, columns = (
        torch.from_numpy(array).to(device)[:, None] for array in (top, left, height, width)
    )  # each (B, 1), against `place` (S,)
    in_rows = (place >= first_row) & (place < first_row + rows)  # (B, S)
    in_columns = (place >= first_column) & (place < first_column + columns)
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]


def kept_branches(count: int, rates: Sequence[float], seed: int, step: int) -> Tensor:
    """Factors (count, L, 2) of stochastic depth, for the two branches of each of L blocks; their expectation is 1.

    Args:
        rates: the probability that a branch is skipped, for each block. Source: Huang et al. 2016, arXiv 1603.09382.
    """
    rate = np.array(rates)[None, :, None]  # (1, L, 1)
    kept = generator(seed, step, 2).random((count, len(rates), 2)) >= rate
    return torch.from_numpy((kept / (1 - rate)).astype(np.float32))
