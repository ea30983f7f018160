"""Correlations of inputs and of features, and Eq (5), which ties them to kurtosis (v2 Section 4, App A.3).

With X divided by its RMS, so that its mean square is 1, and the Gram matrices S_I = X X^T and S_F = X^T X:

    input_correlation_mean  =       1/(n(n-1)) sum_{a != b}  (S_I)_ab / d
    input_correlation_rms   = sqrt( 1/(n(n-1)) sum_{a != b} ((S_I)_ab / d)^2 )
    feature_correlation_rms = sqrt( 1/(d(d-1)) sum_{i != j} ((S_F)_ij / n)^2 )

The mean lies in [-1/(n-1), 1] and an RMS in [0, 1]. They are not cosines: long inputs weigh more, and the diagonal of
S_I / d consists of ones only if all inputs have the same norm. Orthogonal inputs give 0, and inputs that have all
become the same (rank collapse) give 1. A rotation of the neurons changes neither of the input correlations.

The matrix over inputs is not formed where it would be the larger one. The mean follows from
sum_{a != b} (S_I)_ab = ||sum_a x_a||^2 - sum_a ||x_a||^2. Both Gram matrices have the same Frobenius norm, so that the
smaller one serves either RMS. Sums are taken in float64, in which these differences are exact enough.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reproduce.metrics.inputs import metric
from reproduce.metrics.kurtosis import kurtosis
from reproduce.metrics.scale import at_unit_rms


@metric
def input_correlation_mean(x: Tensor) -> Tensor:
    """Mean of (S_I)_ab / d over pairs of inputs, (..., d) -> (), in O(nd). It is NaN for n = 1 or zero activations.

    Source: v2 App A.3; in v1 Figs 5 and 6.
    """
    n, d = x.shape
    x = at_unit_rms(x)
    # ||sum_a x_a||^2 counts every ordered pair and the n diagonal terms ||x_a||^2, which are taken off again.
    return mean_over_pairs(x.sum(0).square().sum() - x.square().sum(), n) / d


@metric
def input_correlation_rms(x: Tensor) -> Tensor:
    """RMS of (S_I)_ab / d over pairs of inputs, (..., d) -> (), in 2 n d min(n, d) FLOPs.

    It is NaN for n = 1 or zero activations. Source: v2 App A.3; in the appendix figures.
    """
    n, d = x.shape
    x = at_unit_rms(x)
    # The diagonal of S_I has the entries ||x_a||^2, one for each row.
    return rms_over_pairs(gram_energy(x) - x.square().sum(1).square().sum(), n) / d


@metric
def feature_correlation_rms(x: Tensor) -> Tensor:
    """RMS of (S_F)_ij / n over pairs of neurons, (..., d) -> (), in 2 n d min(n, d) FLOPs.

    It is NaN for d = 1 or zero activations. Source: v2 Eq 5, the sum beside the kurtosis.
    """
    n, d = x.shape
    x = at_unit_rms(x)
    # The diagonal of S_F has the entries sum_a X_aj^2, one for each column.
    return rms_over_pairs(gram_energy(x) - x.square().sum(0).square().sum(), d) / n


@metric
def eq5_residual(x: Tensor) -> Tensor:
    """Relative gap between the two sides of Eq (5) as measured, (..., d) -> (), in O(nd min(n, d)).

    Eq (5) is an identity, so the residual shows whether rounding or a wrong normalisation has spoilt a metric in it.
    It stays below 1e-3 for float32, and is NaN for n = 1 or d = 1.
    Source: v2 Eq 5.
    """
    # mean_a (||x_a||^2 / d)^2, the diagonal of S_I / d
    input_diagonal = at_unit_rms(x).square().mean(1).square().mean()
    return eq5_gap(kurtosis(x), feature_correlation_rms(x), input_correlation_rms(x), input_diagonal, *x.shape)


def eq5_gap(kurtosis: Tensor, feature_rms: Tensor, input_rms: Tensor, input_diagonal: Tensor, n: int, d: int) -> Tensor:
    """(left - right) / kurtosis of  kurtosis + (d-1) F^2 = (d/n) D + d (1 - 1/n) I^2,  Eq (5) over n^2 d.

    F is `feature_rms`, I is `input_rms`, and D = mean_a (||x_a||^2 / d)^2 of the stream at mean square 1 is
    `input_diagonal`. All tensors are ().
    """
    # Eq (5) as printed, with both sides over n^2 d at mean square 1
    left = kurtosis + (d - 1) * feature_rms.square()
    right = d / n * input_diagonal + d * (1 - 1 / n) * input_rms.square()
    return (left - right) / kurtosis


def gram_energy(x: Tensor) -> Tensor:
    """||X X^T||_F^2 = ||X^T X||_F^2 of `x` (n, d), computed from the smaller one of the two matrices."""
    n, d = x.shape
    return (x @ x.T if n < d else x.T @ x).square().sum()


def mean_over_pairs(total: Tensor, count: int) -> Tensor:
    """A sum over ordered pairs of `count` things, divided by the number of pairs. It is NaN where there is no pair."""
    return total / (count * (count - 1)) if count > 1 else torch.full_like(total, torch.nan)


def rms_over_pairs(total: Tensor, count: int) -> Tensor:
    """Root of the mean of a sum of squares over ordered pairs of `count` things."""
    # Where all pairs are orthogonal, the difference that gave `total` may round to just below 0.
    return mean_over_pairs(total, count).clamp(min=0).sqrt()
