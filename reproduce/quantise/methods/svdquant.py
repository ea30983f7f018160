"""SVDQuant (Li et al., ICLR 2025, arXiv 2411.05007): a branch of low rank takes up the large part of a weight.

    W^ = W diag(s),   X^ = X diag(s)^-1,   Y = X^ L^T + Q(X^) Q(W^ - L)^T,   L of rank r, in 16 bits

L begins as the best approximation of W^, and is then improved: L <- SVD_r(W^ - Q), Q <- Q(W^ - L), as long as the
output error with quantised inputs falls. Layers that share an input are stacked along their outputs, so that they share
the first product of the branch. The smoothing exponents are searched among (alpha, 0) and (alpha, 1 - alpha) on a grid
of 20, for the least output error without a branch, so that all ranks have the same. Source: `calib/lowrank.py` and
`configs/svdquant` of mit-han-lab/deepcompressor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reproduce.quantise.methods.smoothquant import smoothing_scales

ITERATIONS = 100
"""Largest number of improvements of a branch."""
GRID = 20
"""Number of exponents alpha that are tried."""

Quantiser = Callable[[Tensor], Tensor]


def low_rank(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best approximation of `matrix` (m, k) of that rank, as up (m, r) and down (r, k), computed in float64.

    It is the projection on the first r singular vectors of the shorter side, U U^T W or W V V^T. They are eigenvectors
    of the Gram matrix of that side, which takes a third of the time of a whole singular value decomposition.
    """
    whole = matrix.double()
    outputs, inputs = whole.shape
    if rank == 0:
        return matrix[:, :0], matrix[:0]
    gram = whole.T @ whole if inputs <= outputs else whole @ whole.T
    first = torch.linalg.eigh(gram).eigenvectors[:, -rank:]  # eigenvalues ascend
    up, down = (whole @ first, first.T) if inputs <= outputs else (first, first.T @ whole)
    return up.float(), down.float()


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


def search_scales(
    x: Tensor, largest: Tensor, weights: Sequence[Tensor], quantise_x: Quantiser, quantise_w: Quantiser
) -> Tensor:
    """The smoothing scales (k,) of layers with one input whose stacked weights lose least without a branch.

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
    return found[1]
