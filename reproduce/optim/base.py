"""The loop that the optimisers written here share: one `update` for each parameter that has a gradient.

Everything that must survive a checkpoint lies in the `state` that `update` is handed: tensors of the parameter's
type, which is what `Optimizer.load_state_dict` casts them to, and plain integers. A resumed run is thereby the same
run, bit for bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor


class PerParameter(torch.optim.Optimizer, ABC):
    """An optimiser that treats each parameter alone."""

    @abstractmethod
    def update(self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Update `weight` in place.

        Args:
            gradient: of the weight's shape; not to be changed.
            state: this parameter's own, empty at the first call.
            group: its options, `lr` as set for this step.
        """

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter once; `closure`, if given, recomputes the loss and the gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self.update(weight, weight.grad, self.state[weight], group)
        return loss


def as_matrix(tensor: Tensor) -> Tensor:
    """`tensor` as its first axis by all others, so that a convolution kernel is (out, in x height x width).

    Tensors of two axes or fewer are returned as they are.
    """
    return tensor.flatten(1) if tensor.ndim > 2 else tensor
