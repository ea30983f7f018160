"""What all metrics of a stream share: the form in which they take X and return their value.

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
    """`x` in float32, or in float64 if it has that type already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def as_inputs(x: Tensor) -> Tensor:
    """`x` (..., d) upcast and reshaped to a matrix (n, d), since all leading axes are inputs."""
    if x.device.type == "mps":
        x = x.cpu()  # Apple's GPUs lack float64, in which sums are taken
    return upcast(x).reshape(-1, x.shape[-1])


def finite_or_nan(value: Tensor) -> Tensor:
    """`value` with NaN in place of infinities, since activations that overflowed have no size."""
    return torch.where(value.isfinite(), value, torch.nan)


def metric(compute: Callable[Concatenate[Tensor, P], Tensor]) -> Callable[Concatenate[Tensor, P], Tensor]:
    """Decorator that makes a metric (..., d) -> () of a function `compute`, (n, d) -> ().

    The metric takes no part in autograd. It computes in float32 or better, and returns float32, or float64 where the
    stream is float64.
    """

    @functools.wraps(compute)
    @torch.no_grad()
    def measure(x: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        x = as_inputs(x)  # (n, d)
        return compute(x, *args, **kwargs).to(x.dtype)

    return measure
