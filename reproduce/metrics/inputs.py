"""What all metrics of a stream share: how they take X and how they return their value.

Shapes throughout the package: X is n x d, a row x_a for each of the n inputs (tokens, patches or images) and a column
for each of the d neurons.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def upcast(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 where it is that already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def as_inputs(x: Tensor) -> Tensor:
    """`x` (..., d) upcast, as a matrix (n, d): all leading axes are inputs."""
    if x.device.type == "mps":
        x = x.cpu()  # Apple's GPUs have no float64, which sums are taken in
    return upcast(x).reshape(-1, x.shape[-1])


def finite_or_nan(value: Tensor) -> Tensor:
    """`value` with infinities made NaN: a run that overflowed has no size."""
    return torch.where(value.isfinite(), value, torch.nan)


def metric(compute: Callable[Concatenate[Tensor, P], Tensor]) -> Callable[Concatenate[Tensor, P], Tensor]:
    """Make a metric (..., d) -> () of `compute` (n, d) -> ().

    It takes no part in autograd, computes in float32 or better, and returns float32, or float64 for a float64 input.
    """

    @functools.wraps(compute)
    @torch.no_grad()
    def measure(x: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        x = as_inputs(x)
        return compute(x, *args, **kwargs).to(x.dtype)

    return measure
