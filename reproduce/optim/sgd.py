"""SGD with momentum as a moving average of the gradient (v2 App A.2), and decoupled weight decay.

Per parameter W with gradient G, from M = 0:

    W <- W - lr wd W
    M <- b1 M + (1 - b1) G
    W <- W - lr M

PyTorch's SGD keeps the sum M <- b1 M + G instead: its rate lr (1 - b1) equals lr here. There is no bias correction,
so the first updates are small by 1 - b1^t. b1 = 0 is plain SGD.

State: `M`, of W's shape.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reproduce.config import OptimizerConfig
from reproduce.optim.base import PerParameter


class Sgd(PerParameter):
    """SGD with momentum in moving-average form."""

    def __init__(self, groups: list[dict[str, Any]], config: OptimizerConfig) -> None:
        super().__init__(groups, {"lr": config.lr, "beta1": config.beta1, "weight_decay": 0.0})

    def update(self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state["M"] = torch.zeros_like(weight)
        M = state["M"].lerp_(gradient, 1 - group["beta1"])
        # Decay is decoupled: it acts on the weight and never enters M.
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.sub_(M, alpha=group["lr"])
