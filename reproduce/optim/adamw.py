"""AdamW: Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), as PyTorch has it.

Per parameter W with gradient G, elementwise, from M = V = 0, at update t = 1, 2, ...:

    W <- W - lr wd W
    M <- b1 M + (1 - b1) G
    V <- b2 V + (1 - b2) G^2
    W <- W - lr M^ / (sqrt(V^) + eps)         M^ = M / (1 - b1^t),  V^ = V / (1 - b2^t)

eps is added after bias correction. That is the place that the paper's study of eps means: where sqrt(V^) << eps
the update is lr M^ / eps, momentum SGD without adaptivity.

State: `exp_avg` (M) and `exp_avg_sq` (V), of W's shape, and `step` (t), of shape ().
"""

from __future__ import annotations

from typing import Any

import torch

from reproduce.config import OptimizerConfig


def adamw(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.AdamW:
    """PyTorch's AdamW over `groups`, in one fused kernel where the parameters' device has one."""
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    return torch.optim.AdamW(
        groups,
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=devices <= {"cpu", "cuda"},
    )
