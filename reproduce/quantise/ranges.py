"""Range estimators: which part of a tensor's numbers a grid covers.

Estimators of rows take blocks (n, m), as `reproduce.quantise.blocks` makes them, and give one range for each row, of
shape (n, 1). A tensor whose numbers share one range is the case n = 1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reproduce.quantise.grids import symmetric_grid, unsigned_grid

CANDIDATES = 100
"""Number of limits that the search for the least squared error tries."""
MARGIN = 0.5
"""What the search adds to the largest magnitude. It is absolute, so the search is coarse for small weights."""


def min_max(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest number of each row: (n, m) -> two of (n, 1)."""
    return blocks.amin(dim=1, keepdim=True), blocks.amax(dim=1, keepdim=True)


def largest(blocks: Tensor) -> Tensor:
    """The largest magnitude of each row: (n, m) -> (n, 1)."""
    return blocks.abs().amax(dim=1, keepdim=True)


def percentiles(x: Tensor, percent: float) -> tuple[Tensor, Tensor]:
    """The (100 - percent) and the `percent` percentile over the whole tensor, interpolated linearly; two scalars.

    They are float64, as in the published code: a scale that differs in the last digit of float32 moves numbers that
    lie on the edge between two levels.
    """
    # torch.quantile takes at most 16 million numbers, and attention scores are more.
    ends = np.percentile(x.detach().float().cpu().numpy(), (100 - percent, percent))
    low, high = (torch.tensor(float(end), device=x.device, dtype=torch.float64) for end in ends)
    return low, high


def least_squares_limit(blocks: Tensor, bits: int, margin: float = MARGIN) -> tuple[Tensor, bool]:
    """The limit of a symmetric grid with the least squared error, by search (MSE estimator of arXiv 2306.12929).

    The candidates are k (max |x| + margin) / 100 for k = 1 .. 100, with the maximum over all rows. A tensor without
    negative numbers is searched on the unsigned grid. Cost: 100 passes over the tensor.

    Args:
        blocks: (n, m), one limit for each row.
        bits: width of the grid.
        margin: what is added to the largest magnitude.

    Returns:
        the limits (n, 1), and whether the grid is signed.
    """
    signed = bool(blocks.min() < 0)
    make = symmetric_grid if signed else unsigned_grid
    top = float(blocks.abs().max()) + margin
    best = torch.full((blocks.shape[0], 1), torch.inf, device=blocks.device)
    limit = torch.full_like(best, top)
    for candidate in range(1, CANDIDATES + 1):
        tried = torch.full_like(best, top / CANDIDATES * candidate)
        error = (blocks - make(tried, bits)(blocks)).square().sum(dim=1, keepdim=True)
        better = error < best
        best, limit = torch.where(better, error, best), torch.where(better, tried, limit)
    return limit, signed


class RunningRange:
    """Exponential moving average of the ranges of batches: 0.9 old + 0.1 new, which starts with the first batch."""

    def __init__(self, momentum: float = 0.9, percent: float | None = None) -> None:
        """
        Args:
            momentum: weight of the range so far.
            percent: percentile that is taken as the largest number of a batch, or None for the largest itself.
        """
        self.momentum, self.percent = momentum, percent
        self.low: Tensor | None = None
        self.high: Tensor | None = None

    def update(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Take in one batch of any shape, and return the range after it."""
        low, high = (x.min(), x.max()) if self.percent is None else percentiles(x, self.percent)
        if self.low is None or self.high is None:
            self.low, self.high = low, high
        else:
            self.low = (1 - self.momentum) * low + self.momentum * self.low
            self.high = (1 - self.momentum) * high + self.momentum * self.high
        return self.low, self.high
