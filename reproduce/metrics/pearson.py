"""Pearson kurtosis of activations, which other papers measure under the same name as the paper's kurtosis of neurons.

    kurtosis_flat      mean over sequences of   mean (x - mu)^4 / (sigma^4 + 1e-6)   over all T d activations
    kurtosis_excess    mean over inputs of      max(0, mean x^4 / sigma^4 - 3)       over the d neurons

Both look at the activations of one sequence or input, and not at neurons over inputs, so that neither follows from
Eq (1). Normal activations give 3 and 0. One model may have 26 in one convention and 1,800 in another.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reproduce.metrics.inputs import upcast

FLAT_EPS = 1e-6
"""What the code of Bondarenko et al. adds to sigma^4."""


@torch.no_grad()
def kurtosis_flat(x: Tensor) -> Tensor:
    """Pearson kurtosis of a whole sequence, averaged over sequences, (B, T, d) -> (), in O(nd).

    sigma is the standard deviation with N - 1 in its denominator, as in that code.
    Source: Bondarenko et al. (arXiv 2306.12929), `avg kurtosis`, with a row for each sequence.
    """
    rows = upcast(x).flatten(1).double()  # (B, T d)
    return flat_of_powers(rows.shape[1], *(rows.pow(power).mean(1) for power in range(1, 5))).mean().to(upcast(x).dtype)


@torch.no_grad()
def kurtosis_excess(x: Tensor) -> Tensor:
    """Excess kurtosis of each input over its neurons, where it is above 0, averaged over inputs, (..., d) -> ().

    The fourth moment is about 0 and the standard deviation about the mean, with d in its denominator; it takes O(nd).
    Source: Park et al. (arXiv 2506.19697), which publishes it for each checkpoint.
    """
    rows = upcast(x).reshape(-1, x.shape[-1]).double()  # (n, d)
    return excess_of_powers(*(rows.pow(power).mean(1) for power in (1, 2, 4))).mean().to(upcast(x).dtype)


def flat_of_powers(count: int | Tensor, m1: Tensor, m2: Tensor, m3: Tensor, m4: Tensor) -> Tensor:
    """Pearson kurtosis from the means of the first four powers of `count` values, each (...) -> (...)."""
    variance = m2 - m1.square()
    fourth = m4 - 4 * m1 * m3 + 6 * m1.square() * m2 - 3 * m1.pow(4)  # about the mean
    return fourth / ((variance * count / (count - 1)).square() + FLAT_EPS)


def excess_of_powers(m1: Tensor, m2: Tensor, m4: Tensor) -> Tensor:
    """Excess kurtosis from the means of powers, not below 0, each (...) -> (...)."""
    return (m4 / (m2 - m1.square()).square() - 3).clamp(min=0)
