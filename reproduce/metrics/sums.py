"""The sums over inputs that the metrics of a stream follow from, exact over micro-batches and processes.

Kurtosis and correlations are ratios and must not be averaged over parts of a batch; these sums may be added:

    sums = functools.reduce(operator.add, [StreamSums.of(part) for part in parts])

and across processes each field is all-reduced (`over`). Only the max-median ratio is not among them: it is a matter of
single inputs, whose ratios (`row_ratios`) are concatenated instead.
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
    """Sums over the inputs x_a of one residual stream, all in float64; each property is the metric of that name.

    In float64 no float32 activation overflows, and autocast and TF32 leave the Gram matrix alone. That matrix is d x d
    even for n < d, where n x n would be smaller: only this one adds.
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
        """Sums of the stream `x` (..., d), in 2 n d^2 FLOPs."""
        x = as_inputs(x).double()
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
        """The sums over all processes, where `total` adds a tensor up over them; (d + 1)^2 + 1 numbers to send."""
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
        """m2, (): what X X^T and X^T X are divided by so that the mean square of X is 1."""
        return self.second_moments.mean()

    @property
    def kurtosis(self) -> Tensor:
        return kurtosis_of_moments(self.second_moments)

    @property
    def kurtosis_centred(self) -> Tensor:
        """From the diagonal of C G C for the Gram matrix G and the centring C = I - 11^T/d."""
        row_means = self.gram.mean(0)
        centred = self.gram.diagonal() - 2 * row_means + row_means.mean()
        return kurtosis_of_moments(centred)

    @property
    def activation_rms(self) -> Tensor:
        return rms_of_moments(self.second_moments)

    @property
    def input_correlation_mean(self) -> Tensor:
        pairs = self.total.square().sum() - self.gram.trace()
        return mean_over_pairs(pairs, self.n) / (self.d * self.mean_square)

    @property
    def input_correlation_rms(self) -> Tensor:
        pairs = self.gram.square().sum() - self.norm_fourth
        return rms_over_pairs(pairs, self.n) / (self.d * self.mean_square)

    @property
    def feature_correlation_rms(self) -> Tensor:
        pairs = self.gram.square().sum() - self.gram.diagonal().square().sum()
        return rms_over_pairs(pairs, self.d) / (self.n * self.mean_square)

    @property
    def eq5_residual(self) -> Tensor:
        input_diagonal = self.norm_fourth / (self.n * (self.d * self.mean_square).square())
        return eq5_gap(
            self.kurtosis, self.feature_correlation_rms, self.input_correlation_rms, input_diagonal, self.n, self.d
        )
