"""SplitQuant (Song & Lin 2025, arXiv 2501.12428): each weight is split into three parts with a scale of their own.

    W = W_1 + W_2 + W_3,     Y = X Q(W_1)^T + X Q(W_2)^T + X Q(W_3)^T

k-means with k = 3 on all entries gives the boundaries, which are the midpoints between the centres. A part holds the
entries of its interval and 0 elsewhere, and its range contains 0. Stored densely the three parts take three times the
bits; a code for part and level takes b + log2(3) bits a weight, which is what is reported.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from reproduce.quantise.quantisers import Scheme

PARTS = 3
EXTRA_BITS = math.log2(PARTS)
"""Bits a weight that say to which part it belongs."""


def boundaries(weight: Tensor) -> list[float]:
    """The two boundaries between the three clusters of the entries of `weight`, in order. Seeded, unlike theirs."""
    values = weight.detach().double().cpu().numpy().reshape(-1, 1)
    if len(np.unique(values)) < PARTS:
        return [float(values.max())] * (PARTS - 1)  # nothing to separate: all entries are in the first part
    centres = np.sort(KMeans(PARTS, n_init="auto", random_state=0).fit(values).cluster_centers_.ravel())
    return [float(middle) for middle in (centres[1:] + centres[:-1]) / 2]


def split(weight: Tensor, at: list[float] | None = None) -> list[Tensor]:
    """Three tensors of the shape of `weight` that add up to it exactly.

    Args:
        at: the two boundaries; those of k-means if None.
    """
    low, high = boundaries(weight) if at is None else at
    zero = torch.zeros_like(weight)
    masks = (weight <= low, (weight > low) & (weight < high), (weight > low) & (weight >= high))
    return [torch.where(mask, weight, zero) for mask in masks]


def quantised(weight: Tensor, scheme: Scheme, at: list[float] | None = None) -> Tensor:
    """The sum of the quantised parts, each with a scale of its own; their grid is asymmetric, as the authors' is."""
    return torch.stack([scheme(part) for part in split(weight, at)]).sum(0)
