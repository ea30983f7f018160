"""What each optimiser step changes in the moments of one layer, measured between two steps (v1 App D)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reproduce.measuring.probe import ByLayer
from reproduce.metrics.moment_updates import moment_updates
from reproduce.parallel import group


@dataclass
class MomentUpdates:
    """Order-by-order contributions of one step to the moments of one layer's activations.

    The activations before a step are those that were kept after the step before it, so that each step costs one
    partial forward pass. That pass is done in float32: the difference of two steps is smaller than a bfloat16's
    rounding.
    """

    layer: int
    encode: Callable[[], Tensor]
    """Runs the model on the fixed probe batch up to that layer, and returns the stream (..., d) there."""
    before: Tensor | None = None

    @torch.no_grad()
    def step(self) -> dict[str, ByLayer]:
        """The contributions of the step just taken. The first call returns nothing: there is no step before it."""
        after = self.encode()
        before, self.before = self.before, after
        if before is None:
            return {}
        updates = moment_updates(before, after, group.total)
        return {metric: {str(self.layer): float(value)} for metric, value in updates.items()}
