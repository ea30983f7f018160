"""How large the activations are: the second moment of each neuron, and the RMS of all activations together."""

from __future__ import annotations

import torch
from torch import Tensor

from reproduce.metrics.inputs import as_inputs, finite_or_nan, metric


@torch.no_grad()
def second_moments(x: Tensor) -> Tensor:
    """Mean square s_j^2 = (1/n) sum_a X_aj^2 of each neuron, (..., d) -> (d,), in O(nd).

    The result is always float64. Every form of kurtosis that is not centred follows from this vector.
    Source: v1 Eq 1, inner mean.
    """
    # The square of a large float32 does not fit into a float32.
    return as_inputs(x).double().square().mean(0)


@metric
def activation_rms(x: Tensor) -> Tensor:
    """sqrt(mean X^2) = ||X||_F / sqrt(nd), (..., d) -> (), in O(nd). It is NaN if X is not finite.

    Source: the paper writes ||X||_F and plots the RMS (v2 Fig 16; `x_rms` in the authors' code).
    """
    return rms_of_moments(second_moments(x))


def rms_of_moments(moments: Tensor) -> Tensor:
    """RMS of all activations from the second moments (d,) of the neurons, -> ()."""
    return finite_or_nan(moments.mean()).sqrt()


def at_unit_rms(x: Tensor) -> Tensor:
    """`x` (n, d) in float64, divided by its RMS, so that its mean square is 1 (v1 footnote 4)."""
    x = x.double()  # autocast and TF32 would lower the precision of a Gram matrix, but leave float64 alone
    return x / x.square().mean().sqrt()
