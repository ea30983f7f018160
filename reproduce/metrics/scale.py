"""How large the activations are: the second moment of each neuron, the RMS of all of them."""

from __future__ import annotations

import torch
from torch import Tensor

from reproduce.metrics.inputs import as_inputs, finite_or_nan, metric


@torch.no_grad()
def second_moments(x: Tensor) -> Tensor:
    """Mean square s_j^2 = (1/n) sum_a X_aj^2 of each neuron, (..., d) -> (d,), in O(nd).

    Always float64, since the square of a float32 may exceed what float32 holds. Every uncentred form of kurtosis
    follows from this vector.
    Source: v1 Eq 1, inner mean.
    """
    return as_inputs(x).double().square().mean(0)


@metric
def activation_rms(x: Tensor) -> Tensor:
    """sqrt(mean X^2) = ||X||_F / sqrt(nd), (..., d) -> (), in O(nd). 0 for zero activations, NaN if X is not finite.

    Source: the paper writes ||X||_F and plots the RMS (v2 Fig 16; `x_rms` in the authors' code).
    """
    return rms_of_moments(second_moments(x))


def rms_of_moments(moments: Tensor) -> Tensor:
    """RMS of all activations from the second moments (d,) of the neurons."""
    return finite_or_nan(moments.mean()).sqrt()


def at_unit_rms(x: Tensor) -> Tensor:
    """`x` (n, d) in float64, divided by its RMS, so that its mean square is 1 (v1 footnote 4).

    Gram matrices are taken of this: autocast and TF32, which would lower their precision, leave float64 alone.
    """
    x = x.double()
    return x / x.square().mean().sqrt()
