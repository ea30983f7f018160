"""The sums over inputs from which the metrics of a stream follow, exactly, over micro-batches and processes.

Kurtosis and correlations are ratios, which must not be averaged over parts of a batch. These sums may be added:

    sums = functools.reduce(operator.add, [StreamSums.of(part) for part in parts])

Across processes each field is all-reduced (`over`). The max-median ratio does not follow from sums, since it is taken
of single inputs: their ratios (`row_ratios`) are concatenated instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reproduce.metrics.correlation import eq5_gap, mean_over_pairs, rms_over_pairs
from reproduce.metrics.inputs import as_inputs
from reproduce.metrics.kurtosis import kurtosis_of_moments
from reproduce.metrics.scale import rms_of_moments


@dataclass(frozen=True, eq=False)
class StreamSums:
    """Sums over the inputs x_a of one residual stream, all in float64. Each property is the metric of that name.

    In float64 no square of a float32 activation overflows, and autocast and TF32 leave the Gram matrix alone. This
    matrix is d x d even where n x n would be smaller, because Gram matrices over inputs cannot be added.
    """

    n: int
    """Number of inputs."""
    total: Tensor
    """sum_a x_a, (d,)."""
    gram: Tensor
    """X^T X, (d, d); its diagonal is n times the second moments."""
    norm_fourth: Tensor
    """sum_a ||x_a||^4, ()."""

    @classmethod
    @torch.no_grad()
    def of(cls, x: Tensor) -> StreamSums:
        """The sums of the stream `x` (..., d), in 2 n d^2 FLOPs."""
        x = as_inputs(x).double()  # (n, d)
        return cls(x.shape[0], x.sum(0), x.T @ x, torch.linalg.vector_norm(x, dim=1).pow(4).sum())

    def __add__(self, other: StreamSums) -> StreamSums:
        """The sums of both sets of inputs together."""
        return StreamSums(
            self.n + other.n,
            self.total + other.total,
            self.gram + other.gram,
            self.norm_fourth + other.norm_fourth,
        )

    def over(self, total: Callable[[Tensor], Tensor]) -> StreamSums:
        """The sums over all processes, where `total` adds a tensor up over them. It sends (d + 1)^2 + 1 numbers."""
        n = int(total(torch.tensor(self.n)))
        return StreamSums(n, total(self.total), total(self.gram), total(self.norm_fourth))

    @property
    def d(self) -> int:
        """Number of neurons."""
        return self.total.shape[0]

    @property
    def second_moments(self) -> Tensor:
        return self.gram.diagonal() / self.n

    @property
    def mean_square(self) -> Tensor:
        """m2 = mean X^2, (). Gram matrices are divided by it, as if X had been divided by its RMS."""
        return self.second_moments.mean()

    @property
    def kurtosis(self) -> Tensor:
        return kurtosis_of_moments(self.second_moments)

    @property
    def kurtosis_centred(self) -> Tensor:
        """It follows from the diagonal of C G C, with the Gram matrix G and the centring C = I - 11^T/d."""
        # (CGC)_jj = G_jj - 2 mean_k G_jk + mean_kl G_kl, since G is symmetric: `row_means` and `centred` are (d,).
        row_means = self.gram.mean(0)
        centred = self.gram.diagonal() - 2 * row_means + row_means.mean()
        return kurtosis_of_moments(centred)

    @property
    def activation_rms(self) -> Tensor:
        return rms_of_moments(self.second_moments)

    @property
    def input_correlation_mean(self) -> Tensor:
        # ||sum_a x_a||^2 less the diagonal sum_a ||x_a||^2, which is the trace of either Gram matrix
        pairs = self.total.square().sum() - self.gram.trace()
        return mean_over_pairs(pairs, self.n) / (self.d * self.mean_square)

    @property
    def input_correlation_rms(self) -> Tensor:
        # X X^T has the Frobenius norm of X^T X, and the diagonal ||x_a||^2.
        pairs = self.gram.square().sum() - self.norm_fourth
        return rms_over_pairs(pairs, self.n) / (self.d * self.mean_square)

    @property
    def feature_correlation_rms(self) -> Tensor:
        # ||X^T X||_F^2 less its diagonal
        pairs = self.gram.square().sum() - self.gram.diagonal().square().sum()
        return rms_over_pairs(pairs, self.d) / (self.n * self.mean_square)

    @property
    def eq5_residual(self) -> Tensor:
        # mean_a (||x_a||^2 / d)^2, divided by m2^2 as if the mean square were 1
        input_diagonal = self.norm_fourth / (self.n * (self.d * self.mean_square).square())
        return eq5_gap(
            self.kurtosis, self.feature_correlation_rms, self.input_correlation_rms, input_diagonal, self.n, self.d
        )
