"""AdamW: Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), in two placements.

Per parameter W with gradient G, elementwise, from M = V = 0, at update t = 1, 2, ...:

    M <- b1 M + (1 - b1) G                    M^ = M / (1 - b1^t)
    V <- b2 V + (1 - b2) G^2                  V^ = V / (1 - b2^t)

    torch           W <- (1 - lr wd) W,       W <- W - lr M^ / (sqrt(V^) + eps)
    transformers    W <- W - lr M^ / (sqrt(V^) + eps / sqrt(1 - b2^t)),       W <- (1 - lr wd) W

`torch` is PyTorch's AdamW, which adds eps after bias correction and decays the weights before the update. It is the
default. `transformers` is the AdamW of Hugging Face transformers 4.30, with which the authors' released code trains:
eps is added to sqrt(V), before bias correction, and the weights decay after the update. There eps counts
1 / sqrt(1 - b2^t) times as much, which is 32 times at the first step with b2 = 0.999 and within 1 % of equal after
4,000. The paper states neither placement. Its study of eps (Figs 8, 27 to 29) was run with the latter if it was run
with the released code.

In both, the update is lr M^ / eps where eps dwarfs sqrt(V^): momentum SGD without adaptivity.

State: `exp_avg` (M) and `exp_avg_sq` (V), of W's shape, and `step` (t), of shape () or an integer.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from reproduce.config import OptimizerConfig
from reproduce.optim.base import PerParameter


def adamw(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW over `groups` in the placement that `config` names.

    PyTorch's runs in one fused kernel where the parameters' device has one.
    """
    if config.placement == "transformers":
        return TransformersAdamW(groups, config)
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    return torch.optim.AdamW(
        groups,
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=devices <= {"cpu", "cuda"},
    )


class TransformersAdamW(PerParameter):
    """AdamW as in transformers 4.30 (`transformers.optimization.AdamW`, since removed there)."""

    def __init__(self, groups: list[dict[str, Any]], config: OptimizerConfig) -> None:
        betas = (config.beta1, config.beta2)
        super().__init__(groups, {"lr": config.lr, "betas": betas, "eps": config.eps, "weight_decay": 0.0})

    def update(self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        if not state:
            state |= {"step": 0, "exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
        state["step"] += 1
        M, V = state["exp_avg"].lerp_(gradient, 1 - beta1), state["exp_avg_sq"]
        V.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        step_size = group["lr"] * math.sqrt(1 - beta2 ** state["step"]) / (1 - beta1 ** state["step"])
        weight.addcdiv_(M, V.sqrt().add_(group["eps"]), value=-step_size)
        weight.mul_(1 - group["lr"] * group["weight_decay"])
