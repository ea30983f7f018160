"""SVDQuant (Li et al., ICLR 2025, arXiv 2411.05007): a branch of low rank takes up the large part of a weight.

    W^ = W diag(s),   X^ = X diag(s)^-1,   Y = X^ L^T + Q(X^) Q(W^ - L)^T,   L of rank r, in 16 bits

L begins as the best approximation of W^, and is then improved: L <- SVD_r(W^ - Q), Q <- Q(W^ - L), as long as the
output error with quantised inputs falls. Layers that share an input are stacked along their outputs, so that they share
the first product of the branch. The smoothing exponents are searched among (alpha, 0) and (alpha, 1 - alpha) on a grid
of 20, for the least output error. Source: `calib/lowrank.py` and `configs/svdquant` of mit-han-lab/deepcompressor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reproduce.quantise.methods.smoothquant import smoothing_scales

ITERATIONS = 100
"""Largest number of improvements of a branch."""
GRID = 20
"""Number of exponents alpha that are tried."""

Quantiser = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Branch:
    """One stacked weight (m, k) as a quantised part and a branch."""

    scales: Tensor
    """Smoothing scales (k,)."""
    quantised: Tensor
    """(m, k)."""
    up: Tensor
    """(m, r)."""
    down: Tensor
    """(r, k)."""
    error: float
    """Relative output error on the calibration inputs."""


def low_rank(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best approximation of `matrix` (m, k) of that rank, as up (m, r) and down (r, k); SVD in float64."""
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    root = values[:rank].sqrt()
    return (left[:, :rank] * root).float(), (root[:, None] * right[:rank]).float()


def output_error(x: Tensor, weight: Tensor, branch: tuple[Tensor, Tensor, Tensor], quantise_x: Quantiser) -> float:
    """||Y - Y_q|| / ||Y|| on inputs x (n, k), where `branch` is the quantised part, up and down."""
    quantised, up, down = branch
    wanted = x @ weight.T
    got = quantise_x(x) @ quantised.T + (x @ down.T) @ up.T
    return float((wanted - got).norm() / wanted.norm().clamp(min=1e-30))


def decompose(
    x: Tensor, weight: Tensor, rank: int, quantise_x: Quantiser, quantise_w: Quantiser, iterations: int = ITERATIONS
) -> tuple[Tensor, Tensor, Tensor, float]:
    """The quantised part, up, down and output error of a smoothed weight, by the alternation of the module's docstring.

    Args:
        x: smoothed inputs (n, k).
        weight: smoothed weight (m, k).
        rank: r; 0 quantises the weight as it is.
        iterations: improvements after the first decomposition; the first that does not improve ends them.
    """
    best: tuple[Tensor, Tensor, Tensor, float] | None = None
    quantised = torch.zeros_like(weight)
    for _ in range(iterations + 1):
        up, down = low_rank(weight - quantised, rank)
        quantised = quantise_w(weight - up @ down)
        error = output_error(x, weight, (quantised, up, down), quantise_x)
        if best is not None and error >= best[3]:
            break
        best = quantised, up, down, error
        if rank == 0:
            break
    assert best is not None
    return best


def decompose_group(
    x: Tensor, largest: Tensor, weights: Sequence[Tensor], rank: int, quantise_x: Quantiser, quantise_w: Quantiser
) -> Branch:
    """The stacked weights of layers with one input, smoothed with the best exponents and decomposed.

    Args:
        x: calibration inputs (n, k).
        largest: largest magnitude of each input channel, (k,).
        weights: of the layers, (m_i, k).
    """
    stacked = torch.cat(list(weights))
    found: tuple[float, Tensor] | None = None
    for step in range(GRID + 1):
        alpha = step / GRID
        for beta in (0.0, 1 - alpha):
            scales = smoothing_scales(largest, weights, alpha, beta)
            smoothed = stacked * scales
            plain = quantise_w(smoothed), stacked[:, :0], stacked[:0]
            error = output_error(x / scales, smoothed, plain, quantise_x)
            if found is None or error < found[0]:
                found = error, scales
    assert found is not None
    scales = found[1]
    quantised, up, down, error = decompose(x / scales, stacked * scales, rank, quantise_x, quantise_w)
    return Branch(scales, quantised, up, down, error)
