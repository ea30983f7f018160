"""Which parameters decay: matrices and embeddings do; norm parameters, biases and residual gains do not.

The number of axes decides. Weights, token and position embeddings have two or more; norm gains, biases, LayerScale
vectors and SkipInit scalars have one or none. The paper's released code makes the same division.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Optimiser groups of the trained parameters, each parameter (a tied one too) in exactly one.

    A group without parameters is left out: a model without norms, biases and trained gains has one group.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
