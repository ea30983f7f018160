"""Optimisers and schedules of the paper, one file each with its equations.

    adamw                AdamW                                      all language settings
    sgd                  SGD, momentum as a moving average          CIFAR MLP
    adafactor            AdamW with a rank-one second moment        diagonal, as AdamW is
    soap                 Adam in Shampoo's eigenbasis               not diagonal: few outlier features
    adafactor-rotated    AdaFactor in Shampoo's eigenbasis          likewise

`records` has a row for each of them: what it reads, what it costs, and where it is. `groups` divides a model's
parameters by role. `second_moment` and `eigenbasis` are the two choices in which the last four differ. Neither
`records` nor `schedule` needs torch, and importing this package does not load it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from reproduce.optim.records import OPTIMIZERS
from reproduce.optim.schedule import learning_rate

# `reproduce.config` reads the table of this package, so nothing here may import it while it is being loaded.
if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from reproduce.config import OptimizerConfig

__all__ = ["OPTIMIZERS", "build_optimizer", "learning_rate"]


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> Optimizer:
    """The optimiser that `config` names, over the trained parameters of `model` (already on its device).

    Weight decay follows the role of a parameter (`groups`). The caller sets the learning rate before each step with
    `groups.set_learning_rate`. Parameters must be float32 or float64; the state has their type, whatever the products
    are computed in.

    Raises:
        OfeError: the optimiser has a rule for a role that no parameter of `model` has.
    """
    import torch

    from reproduce.optim.groups import parameter_groups

    assert all(parameter.dtype in (torch.float32, torch.float64) for parameter in model.parameters())
    record = OPTIMIZERS[config.name]
    groups = parameter_groups(model, config.weight_decay, record.group_rules)
    module, _, name = record.built_by.partition(":")
    return cast("Optimizer", getattr(import_module(module), name)(groups, config))
