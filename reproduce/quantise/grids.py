"""Uniform integer grids: from a range to a scale and a zero point, and from numbers to integers and back.

    q = clip(round(x / s) + z, low, high),   Q(x) = s (q - z)

symmetric    z = 0, levels -2^(b-1) .. 2^(b-1) - 1, s = limit / (2^(b-1) - 1). The most negative level is used as well,
             as in the published W8A8 code of Bondarenko et al. (arXiv 2306.12929).
unsigned     z = 0, levels 0 .. 2^b - 1, s = limit / (2^b - 1), for tensors without negative numbers.
asymmetric   levels 0 .. 2^b - 1, s = (high - low) / (2^b - 1), z = clip(round(-low / s), 0, 2^b - 1). The range is
             first widened to contain 0, so that 0 stays 0.

Rounding is to the nearest integer, ties to even, as `torch.round` does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST_SCALE = 1e-8
"""Scales below it are raised to it, so that a tensor of zeros has a grid."""


@dataclass(frozen=True)
class Grid:
    """A grid of integers for numbers: `scale` and `zero_point` broadcast against the tensor that is quantised."""

    scale: Tensor
    zero_point: Tensor
    low: int
    """The lowest level."""
    high: int
    """The highest level."""

    def integers(self, x: Tensor) -> Tensor:
        """The levels of `x`, of its shape, as float32 whole numbers."""
        return (torch.round(x.float() / self.scale) + self.zero_point).clamp(self.low, self.high)

    def numbers(self, levels: Tensor) -> Tensor:
        """The numbers that these levels stand for."""
        return self.scale * (levels - self.zero_point)

    def __call__(self, x: Tensor) -> Tensor:
        """`x` on the grid, of its shape, float32."""
        return self.numbers(self.integers(x))


def check_bits(bits: int) -> None:
    """Check that a grid of so many bits exists.

    Raises:
        ValueError: `bits` is not between 2 and 16.
    """
    if not 2 <= bits <= 16:
        raise ValueError(f"a grid has from 2 to 16 bits, not {bits}")


def symmetric_grid(limit: Tensor, bits: int) -> Grid:
    """The symmetric grid whose highest level is `limit`, of any shape."""
    check_bits(bits)
    high = 2 ** (bits - 1) - 1
    scale = (limit / high).clamp(min=SMALLEST_SCALE)
    return Grid(scale, torch.zeros_like(scale), -high - 1, high)


def unsigned_grid(limit: Tensor, bits: int) -> Grid:
    """The grid from 0 to `limit`, of any shape."""
    check_bits(bits)
    high = 2**bits - 1
    scale = (limit / high).clamp(min=SMALLEST_SCALE)
    return Grid(scale, torch.zeros_like(scale), 0, high)


def asymmetric_grid(low: Tensor, high: Tensor, bits: int) -> Grid:
    """The grid from `low` to `high`, both of one shape, after the range was widened to contain 0."""
    check_bits(bits)
    levels = 2**bits - 1
    low, high = low.clamp(max=0.0), high.clamp(min=SMALLEST_SCALE)
    scale = ((high - low) / levels).clamp(min=SMALLEST_SCALE)
    return Grid(scale, torch.round(-low / scale).clamp(0, levels), 0, levels)
