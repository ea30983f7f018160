"""Kurtosis of the neurons' RMS, the paper's measure of outlier features (v1 Eq 1, v2 Eq 1).

    s_j^2 = (1/n) sum_a X_aj^2        kurtosis = mean_j s_j^4 / (mean_j s_j^2)^2        in [1, d]

It is 1 when all neurons have the same RMS, and d when one neuron carries everything. Inputs are aggregated before
neurons are compared, so this is not the Pearson kurtosis of the activations. It stays the same when X is scaled, and
when inputs or neurons are permuted. It changes when X is rotated: outlier features are a property of the basis.

The authors plot Var_j(s_j^2 / mean_k s_k^2) = kurtosis - 1. Their code computes d/(d-1) (kurtosis_centred - 1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from reproduce.metrics.inputs import metric


@metric
def kurtosis(x: Tensor) -> Tensor:
    """mean_j s_j^4 / (mean_j s_j^2)^2, (..., d) -> (), in O(nd).

    It is 1 for d = 1, and NaN for zero activations and where X is not finite.
    Source: v1 Eq 1, v2 Eq 1.
    """
    # The scale of X cancels. With max |X| = 1 no square overflows.
    return kurtosis_of_moments(at_unit_maximum(x).square().mean(0))


@metric
def kurtosis_centred(x: Tensor) -> Tensor:
    """Kurtosis after each input is centred over its neurons, X_aj - mean_k X_ak, (..., d) -> (), in O(nd).

    It is NaN for d = 1. It has no meaning where the neurons of each input differ by rounding only.
    Source: the authors' code, which centres before it measures.
    """
    # With max |X| = 1 the sum of a row does not overflow either.
    x = at_unit_maximum(x)
    return kurtosis(x - x.mean(1, keepdim=True))


@metric
def kurtosis_code(x: Tensor) -> Tensor:
    """Var_j(s_j^2 / mean_k s_k^2) of the centred inputs, with an unbiased variance, (..., d) -> (), in O(nd).

    It is what the authors' code logs as kurtosis, d/(d-1) (kurtosis_centred - 1).
    Source: the authors' code.
    """
    return code_form(kurtosis_centred(x), x.shape[-1])


def code_form(centred: Tensor, d: int) -> Tensor:
    """`kurtosis_code` from `kurtosis_centred` and the width d, -> (). It is NaN for d = 1."""
    return (centred - 1) * d / (d - 1) if d > 1 else torch.full_like(centred, torch.nan)


def kurtosis_of_moments(moments: Tensor) -> Tensor:
    """Kurtosis from the second moments (d,) of the neurons, or from any multiple of them, -> ()."""
    return moments.square().mean() / moments.mean().square()


def at_unit_maximum(x: Tensor) -> Tensor:
    """`x` (n, d) divided by max |X|. All of it is NaN for zero activations."""
    return x / x.abs().max()
