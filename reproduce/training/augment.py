"""How a batch of training images is varied: mirroring, erasing, mixing, smoothed targets, skipped branches.

    flip        an image is mirrored with probability 1/2
    erase       with probability p a rectangle, 2 to 33 % of the area, aspect 0.3 to 3.3, becomes N(0, 1) noise
    smooth      target = (1 - s) one-hot + s / C
    mixup       x <- w x + (1 - w) x', targets alike, w ~ Beta(alpha, alpha), x' the batch in reverse order
    cutmix      a rectangle of 1 - w of the area, anywhere, is that of x'; targets by the area that came of it
    keep        per image and branch 1 / (1 - p) or, with probability p, 0 (stochastic depth)

In this order, on normalised images, with the constants of DeiT's recipe (Touvron et al. 2021, Table 9, and timm, which
it uses). One draw of w a batch, mixup or cutmix by a coin where both are on, as timm does by default. Of that recipe
RandAugment, repeated augmentation and the model's moving average are left out. A rectangle of `erase` is clipped to the
image where timm draws another.

All is a function of (seed, step): numbers come from Philox on the host, noise from a generator of the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reproduce.config import AugmentConfig

ERASED_AREA = (0.02, 1 / 3)
ERASED_ASPECT = 0.3
"""Of the flattest rectangle; the most upright one has its inverse."""


def generator(seed: int, step: int, purpose: int) -> np.random.Generator:
    """Random numbers of one step; those of different purpose never meet."""
    counter = np.array([0, 0, 0, purpose], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array([seed, step], dtype=np.uint64), counter=counter))


def soft_targets(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Targets (B, C) of labels (B,)."""
    return F.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes


def augment(images: Tensor, targets: Tensor, config: AugmentConfig, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Varied images (B, 3, S, S) and targets (B, C); what the configuration does not name is left as it is."""
    draw = generator(seed, step, 1)
    if config.flip:
        mirrored = torch.from_numpy(draw.random(len(images)) < 0.5).to(images.device)
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    if config.erase:
        images = erase(images, config.erase, draw)
    if config.mixup or config.cutmix:
        cut = draw.random() < 0.5 if config.mixup and config.cutmix else bool(config.cutmix)
        alpha = config.cutmix if cut else config.mixup
        weight = float(draw.beta(alpha, alpha))
        images, weight = cutmix(images, weight, draw) if cut else (torch.lerp(images.flip(0), images, weight), weight)
        targets = torch.lerp(targets.flip(0), targets, weight)
    return images, targets


def erase(images: Tensor, probability: float, draw: np.random.Generator) -> Tensor:
    """Images of which some have a rectangle replaced by noise."""
    count, side = len(images), images.shape[-1]
    area = draw.uniform(*ERASED_AREA, count) * side**2
    aspect = ERASED_ASPECT ** draw.uniform(-1, 1, count)
    height, width = (
        np.clip(np.round(np.sqrt(area * ratio)), 1, side).astype(np.int64) for ratio in (aspect, 1 / aspect)
    )
    top, left = (np.floor(draw.random(count) * (side - extent + 1)).astype(np.int64) for extent in (height, width))
    height[draw.random(count) >= probability] = 0
    noise = torch.Generator(images.device).manual_seed(int(draw.integers(2**62)))
    noisy = torch.randn(images.shape, generator=noise, device=images.device, dtype=images.dtype)
    return torch.where(rectangles(side, top, left, height, width, images.device), noisy, images)


def cutmix(images: Tensor, weight: float, draw: np.random.Generator) -> tuple[Tensor, float]:
    """Images with one rectangle from the batch in reverse order, and the part of the area that is still their own."""
    side = images.shape[-1]
    extent = side * np.sqrt(1 - weight)
    centre = draw.integers(side, size=2)
    low, high = (np.clip(np.round(centre + sign * extent / 2), 0, side).astype(np.int64) for sign in (-1, 1))
    inside = rectangles(side, low[:1], low[1:], (high - low)[:1], (high - low)[1:], images.device)
    return torch.where(inside, images.flip(0), images), 1 - float(np.prod(high - low)) / side**2


def rectangles(
    side: int, top: np.ndarray, left: np.ndarray, height: np.ndarray, width: np.ndarray, device: torch.device
) -> Tensor:
    """(B, 1, S, S), true inside the rectangle of each image."""
    place = torch.arange(side, device=device)
    first_row, first_column, rows, columns = (
        torch.from_numpy(array).to(device)[:, None] for array in (top, left, height, width)
    )
    in_rows = (place >= first_row) & (place < first_row + rows)
    in_columns = (place >= first_column) & (place < first_column + columns)
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]


def kept_branches(count: int, rates: Sequence[float], seed: int, step: int) -> Tensor:
    """Factors (B, L, 2) of the two branches of each block, which is skipped at its rate; their mean is 1."""
    rate = np.array(rates)[None, :, None]
    kept = generator(seed, step, 2).random((count, len(rates), 2)) >= rate
    return torch.from_numpy((kept / (1 - rate)).astype(np.float32))
