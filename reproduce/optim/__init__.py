"""Optimisers and schedules of the paper, one file each with its equations.

    adamw                AdamW                                      all language settings
    sgd                  SGD, momentum as a moving average          CIFAR MLP
    adafactor            AdamW with a rank-one second moment        diagonal, as AdamW is
    soap                 Adam in Shampoo's eigenbasis               not diagonal: few outlier features
    adafactor-rotated    AdaFactor in Shampoo's eigenbasis          likewise

`second_moment` and `eigenbasis` are the two choices in which the last four differ. `schedule` needs no torch, and
importing this package does not load it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reproduce.config import OptimizerConfig
from reproduce.optim.schedule import learning_rate

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

__all__ = ["ELEMENTWISE", "build_optimizer", "learning_rate"]

ELEMENTWISE = ("adamw", "sgd")
"""Those that do the same to a part of a matrix as to the whole, which is what FSDP2 leaves of it on each device."""


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> Optimizer:
    """The optimiser that `config` names, over the trained parameters of `model` (already on its device).

    Weight decay is for matrices and embeddings only (`groups`). The caller sets `group["lr"]` of every group before
    each step. Parameters must be float32 or float64; the state has their type, whatever the products are computed in.
    """
    import torch

    from reproduce.optim.adafactor import AdaFactor
    from reproduce.optim.adamw import adamw
    from reproduce.optim.groups import parameter_groups
    from reproduce.optim.sgd import Sgd
    from reproduce.optim.soap import RotatedAdaFactor, Soap

    assert all(parameter.dtype in (torch.float32, torch.float64) for parameter in model.parameters())
    groups = parameter_groups(model, config.weight_decay)
    match config.name:
        case "adamw":
            return adamw(groups, config)
        case "sgd":
            return Sgd(groups, config)
        case "adafactor":
            return AdaFactor(groups, config)
        case "soap":
            return Soap(groups, config)
        case "adafactor-rotated":
            return RotatedAdaFactor(groups, config)
