"""SOAP, and AdaFactor in Shampoo's eigenbasis: Adam's update in a rotated space.

SOAP (Vyas et al., arXiv 2409.11321; step by step the authors' soap.py), per matrix W (m, n) with gradient G:

    call 1     L = (1 - b2) G G^T,  R = (1 - b2) G^T G,  Q_L, Q_R their eigenvectors;  W stays
    then, at update t = 1, 2, ...:
               G' = Q_L^T G Q_R
               M <- b1 M + (1 - b1) G'        V <- b2 V + (1 - b2) G'^2
               W <- W - lr sqrt(1 - b2^t) / (1 - b1^t)  Q_L [M / (sqrt(V) + eps)] Q_R^T
               W <- W - lr wd W
               L <- b2 L + (1 - b2) G G^T     R <- b2 R + (1 - b2) G^T G
               every `precond_freq` updates: new Q_L, Q_R (`eigenbasis`);  V is permuted as their columns are,
               M is carried over: M <- Q_L^T (old Q_L M old Q_R^T) Q_R

No update uses a basis that has seen its own gradient, which is why the first call only sets the basis. Against
AdamW: eps is added before bias correction, weights decay after the step, and vectors (plain Adam otherwise) skip the
first call too.

Rotated AdaFactor (v2 App D) has the rank-one second moment V' of the rotated gradients in place of V. With exact
statistics it is Shampoo with exponent 1/2: Q_L [G' / sqrt(V')] Q_R^T = sqrt(tr L) L^(-1/2) G R^(-1/2). An axis that
is too long to rotate keeps its factor of V', unrotated. What is inferred of AdaFactor (`adafactor`) is so here too.

State: `step` (t, an integer), `M` (m, n) in the rotated space; `V` (m, n), or `r` (m,) and `c` (n,); `L`, `Q_L`
(m, m) and `R`, `Q_R` (n, n) of the axes no longer than `max_precond_dim`. A parameter of more than two axes is a
matrix of its first by all others (the authors' code rotates each axis; no model of the paper has one under SOAP).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from reproduce.config import OptimizerConfig
from reproduce.optim import eigenbasis, second_moment
from reproduce.optim.base import PerParameter, as_matrix


class Soap(PerParameter):
    """Adam in Shampoo's eigenbasis."""

    factored = False
    """Whether the second moment of the rotated gradient is reduced to rank one."""

    def __init__(self, groups: list[dict[str, Any]], config: OptimizerConfig) -> None:
        defaults = {
            "lr": config.lr,
            "betas": (config.beta1, config.beta2),
            "eps": config.eps,
            "weight_decay": 0.0,
            "precond_freq": config.precond_freq,
            "max_precond_dim": config.max_precond_dim,
        }
        super().__init__(groups, defaults)

    def update(self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        G = as_matrix(gradient)  # (m, n), or (m,)
        if not state:  # call 1 only sets the basis: no update may use one that has seen its own gradient
            state |= {"step": 0, "M": torch.zeros_like(G)} | second_moment.zeros(G, factored=self.factored)
            state |= eigenbasis.start(G, beta2, group["max_precond_dim"])
            return
        state["step"] += 1

        # M and V live in the eigenbasis; only the direction is rotated back.
        G_rotated = eigenbasis.rotate(G, state)  # G', (m, n)
        M = state["M"].lerp_(G_rotated, 1 - beta1)
        second_moment.accumulate(state, G_rotated, beta2)
        direction = eigenbasis.rotate_back(M / second_moment.root(state).add_(group["eps"]), state)

        # Both bias corrections are in the step size, so that eps was added before them, as in the authors' code.
        step_size = group["lr"] * math.sqrt(1 - beta2 ** state["step"]) / (1 - beta1 ** state["step"])
        weight.sub_(direction.view_as(weight), alpha=step_size)
        weight.mul_(1 - group["lr"] * group["weight_decay"])

        eigenbasis.accumulate(state, G, beta2)
        if state["step"] % group["precond_freq"] == 0:
            # M is carried over exactly. V has no image in another basis: its entries follow their directions.
            M_unrotated = eigenbasis.rotate_back(M, state)
            second_moment.permute(state, *eigenbasis.refresh(state))
            state["M"] = eigenbasis.rotate(M_unrotated, state)


class RotatedAdaFactor(Soap):
    """AdaFactor in Shampoo's eigenbasis."""

    factored = True
