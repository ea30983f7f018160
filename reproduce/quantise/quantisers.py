"""Quantisers, composed of a grid, a range and a granularity: what methods and placements call.

All simulate: they return float32 numbers on the grid (`reproduce.quantise.integers` computes with the integers).
`Scheme` describes a dynamic quantiser, whose range is that of the tensor itself. `StaticQuantiser` learns its range
from calibration batches and then keeps it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from reproduce.quantise.blocks import Blocks, Granularity, blocked
from reproduce.quantise.grids import Grid, asymmetric_grid, check_bits, symmetric_grid, unsigned_grid
from reproduce.quantise.ranges import MARGIN, RunningRange, largest, least_squares_limit, min_max


@dataclass(frozen=True)
class Scheme:
    """How a tensor is quantised with a range of its own."""

    bits: int
    grid: Literal["symmetric", "asymmetric"] = "symmetric"
    granularity: Granularity = "tensor"
    range: Literal["full", "least-squares"] = "full"
    """full: up to the largest magnitude, or from the smallest to the largest number. least-squares: by search."""
    size: int = 0
    """Length of a group."""
    margin: float = MARGIN
    """Margin of the search."""

    def __post_init__(self) -> None:
        check_bits(self.bits)
        if self.range == "least-squares" and self.grid != "symmetric":
            raise ValueError("the least-squares search is of symmetric grids")

    def fit(self, x: Tensor) -> tuple[Grid, Blocks]:
        """The grid of `x`, a scale for each row of its blocks, and these blocks."""
        blocks = blocked(x.float(), self.granularity, self.size)
        if self.grid == "asymmetric":
            return asymmetric_grid(*min_max(blocks.rows), self.bits), blocks
        if self.range == "full":
            return symmetric_grid(largest(blocks.rows), self.bits), blocks
        limit, signed = least_squares_limit(blocks.rows, self.bits, self.margin)
        return (symmetric_grid if signed else unsigned_grid)(limit, self.bits), blocks

    def __call__(self, x: Tensor) -> Tensor:
        """`x` on the grid that its own range gives."""
        grid, blocks = self.fit(x)
        return blocks.restore(grid(blocks.rows)).to(x.dtype)


class Unrounded(Scheme):
    """A scheme that leaves all numbers as they are, so that what else a method does can be seen by itself."""

    def __call__(self, x: Tensor) -> Tensor:
        return x


class FirstInFloat:
    """Quantises activations (B, T, d), or (B T, d), except those at the first position."""

    def __init__(self, scheme: Scheme, length: Callable[[], int]) -> None:
        self.scheme, self.length = scheme, length

    def __call__(self, x: Tensor) -> Tensor:
        sequences = x if x.ndim == 3 else x.view(-1, self.length(), x.shape[-1])
        rest = self.scheme(sequences[:, 1:])
        return torch.cat([sequences[:, :1], rest], dim=1).view(x.shape)


class StaticQuantiser(nn.Module):
    """An asymmetric quantiser of activations with one range for the whole tensor, learnt from calibration batches.

    While `calibrating`, each batch first updates the range and is then quantised with it, so that what follows in the
    network is calibrated on quantised inputs (arXiv 2306.12929, `quantization/quantization_manager.py`). Afterwards the
    range is frozen.
    """

    def __init__(self, bits: int, percent: float | None = None, momentum: float = 0.9) -> None:
        super().__init__()
        check_bits(bits)
        self.bits, self.calibrating = bits, True
        self.range = RunningRange(momentum, percent)
        self.grid: Grid | None = None

    def forward(self, x: Tensor) -> Tensor:
        """
        Raises:
            ValueError: the quantiser is used before it has seen a calibration batch.
        """
        if self.calibrating:
            self.grid = asymmetric_grid(*self.range.update(x), self.bits)
        if self.grid is None:
            raise ValueError("a static quantiser has no range before it has seen a calibration batch")
        return self.grid(x).to(x.dtype)


def sqnr(x: Tensor, quantised: Tensor) -> float:
    """Signal to quantisation noise ratio in dB, 10 log10(sum x^2 / sum (x - Q(x))^2); infinite without noise."""
    noise = (x.double() - quantised.double()).square().sum()
    return float(10 * torch.log10(x.double().square().sum() / noise)) if noise > 0 else float("inf")
