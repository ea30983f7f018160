"""AdaFactor as the paper uses it: AdamW with the second moment reduced to rank one (v2 App D).

Per matrix W (m, n) with gradient G, at update t = 1, 2, ...:

    W <- W - lr wd W
    M <- b1 M + (1 - b1) G
    r, c <- moving averages of the row and column means of G^2;   V'_ij = r_i c_j / mean(r)
    W <- W - lr M^ / (sqrt(V^) + eps)         M^ = M / (1 - b1^t),  V^ = V' / (1 - b2^t)

The paper names the update of Zhai et al. 2022 and Zhao et al. 2024, without rates scaled by the parameter's norm. That
momentum is kept, as they keep it, is inferred, and so is what else of the original algorithm (Shazeer and Stern, arXiv
1804.04235) is left out: relative step size, clipping of the update, a b2 that grows with t. eps stands where AdamW has
it. Vectors and scalars are plain AdamW.

State: `step` (t, an integer), `M` of W's shape, and `r` (m,), `c` (n,), or `V` for a vector. A parameter of more than
two axes is factored as its first by all others.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from reproduce.config import OptimizerConfig
from reproduce.optim import second_moment
from reproduce.optim.base import PerParameter, as_matrix


class AdaFactor(PerParameter):
    """AdamW with a rank-one second moment."""

    def __init__(self, groups: list[dict[str, Any]], config: OptimizerConfig) -> None:
        betas = (config.beta1, config.beta2)
        super().__init__(groups, {"lr": config.lr, "betas": betas, "eps": config.eps, "weight_decay": 0.0})

    def update(self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        G = as_matrix(gradient)  # (m, n), or (m,)
        if not state:
            state |= {"step": 0, "M": torch.zeros_like(G)} | second_moment.zeros(G, factored=True)
        state["step"] += 1
        M = state["M"].lerp_(G, 1 - beta1)
        second_moment.accumulate(state, G, beta2)

        denominator = second_moment.root(state).div_(math.sqrt(1 - beta2 ** state["step"])).add_(group["eps"])
        # The denominator holds the square root of V's bias correction, the step size that of M.
        step_size = group["lr"] / (1 - beta1 ** state["step"])
        # Decay comes before the step, as in AdamW.
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.sub_((M / denominator).view_as(weight), alpha=step_size)
