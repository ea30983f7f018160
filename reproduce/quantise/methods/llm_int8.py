"""LLM.int8() (Dettmers et al., NeurIPS 2022, arXiv 2208.07339): channels with outliers stay in full precision.

    O = {j : some token has |X_aj| >= threshold},     Y = X_O W_O^T + Q(X_rest) Q(W_rest)^T

O is found anew in each forward pass. The rest has one scale for each token of X and one for each output of W. The
threshold 6.0 of the paper is absolute, so that it means something else in streams of another scale: `relative` takes
6.0 times the root mean square of the inputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reproduce.quantise.quantisers import Scheme

THRESHOLD = 6.0
"""Magnitude from which on an activation is an outlier."""


def outlier_channels(x: Tensor, threshold: float, relative: bool = False) -> Tensor:
    """Which channels of activations (..., k) reach the threshold at any token: (k,) bool."""
    flat = x.reshape(-1, x.shape[-1]).abs()
    limit = threshold * flat.square().mean().sqrt() if relative else threshold
    return flat.amax(0) >= limit


class DecomposedLinear(nn.Module):
    """A linear layer whose outlier channels are multiplied in full precision and the others on grids."""

    def __init__(
        self,
        linear: nn.Linear,
        weight: Scheme,
        activation: Scheme,
        threshold: float = THRESHOLD,
        relative: bool = False,
    ) -> None:
        """
        Args:
            linear: the layer in full precision.
            weight, activation: how the other channels are quantised.
            threshold, relative: see `outlier_channels`.
        """
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.scheme_w, self.scheme_x, self.threshold, self.relative = weight, activation, threshold, relative
        self.channels, self.calls = 0, 0  # for the mean number of channels in full precision

    def forward(self, x: Tensor) -> Tensor:
        out = outlier_channels(x, self.threshold, self.relative)
        self.channels, self.calls = self.channels + int(out.sum()), self.calls + 1
        y = torch.zeros((), device=x.device)
        if out.any():
            y = F.linear(x[..., out], self.weight[:, out])
        if not out.all():
            y = y + F.linear(self.scheme_x(x[..., ~out]), self.scheme_w(self.weight[:, ~out]))
        return y if self.bias is None else y + self.bias

    @property
    def mean_channels(self) -> float:
        """Mean number of channels in full precision over the forward passes so far."""
        return self.channels / max(self.calls, 1)
