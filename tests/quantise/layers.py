"""One linear layer with outliers in two channels of its inputs, for checks of methods (512 x 64)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def outlier_layer(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs x (512, 64), whose channels 3 and 40 are 30 and 20 times as large as the others, and a weight (48, 64)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(512, 64, generator=generator)
    x[:, 3] *= 30
    x[:, 40] *= 20
    return x, 0.02 * torch.randn(48, 64, generator=generator)


def relative_error(x: Tensor, weight: Tensor, quantised: Callable[[Tensor], Tensor]) -> float:
    """||Y - Y_q|| / ||Y||, where `quantised` computes Y_q from x."""
    wanted = x @ weight.T
    return float((wanted - quantised(x)).norm() / wanted.norm())
