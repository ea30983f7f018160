"""How each optimiser step changes the moments of one layer's activations (v1 App D)."""

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
    """Contributions of an optimiser step to the moments of one layer's activations, order by order in the change.

    The activations after a step are kept as those before the next one, so each step costs one partial forward pass.
    That pass has to be done in float32, since one step changes the activations by less than the rounding of bfloat16.
    """

    layer: int
    """The block at whose input the stream is measured, counting from 1."""
    encode: Callable[[], Tensor]
    """Runs the model on the fixed probe batch, and returns the stream (..., d) at the input of that block."""
    before: Tensor | None = None
    """The stream (..., d) after the previous step."""

    @torch.no_grad()
    def step(self) -> dict[str, ByLayer]:
        """The contributions of the step just taken, by metric and layer. The first call has no step, and returns {}."""
        after = self.encode()  # (..., d)
        before, self.before = self.before, after
        if before is None:
            return {}
        # Each process has the stream of its own probe examples, and `group.total` adds up their sums.
        updates = moment_updates(before, after, group.total)
        return {metric: {str(self.layer): float(value)} for metric, value in updates.items()}
