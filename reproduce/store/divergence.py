"""When a training counts as failed.

Rule (a choice of this project; the paper speaks of runs that "only train" under some conditions and gives none):
a loss that is not finite, or losses above twice their running minimum for 1,000 steps on end out of the paper's
80,000. Shorter runs are given the same share of their steps, and never fewer than 10.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

FACTOR = 2.0


@dataclass
class Divergence:
    """The rule, one loss at a time; its fields are all that a checkpoint has to keep of it."""

    steps: int
    """Steps of the run."""
    minimum: float = math.inf
    """Smallest loss so far."""
    streak: int = 0
    """Losses in a row above `FACTOR * minimum`."""

    @property
    def patience(self) -> int:
        """Steps in a row after which a high loss counts as failure."""
        return max(10, self.steps * 1_000 // 80_000)

    def update(self, loss: float) -> bool:
        """Take in the next step's loss and say whether the run has failed with it."""
        if not math.isfinite(loss):
            return True
        self.minimum = min(self.minimum, loss)
        self.streak = self.streak + 1 if loss > FACTOR * self.minimum else 0
        return self.streak >= self.patience


def diverged(losses: Iterable[float], steps: int) -> int | None:
    """Index of the loss with which a run of `steps` steps has failed, or None for a run that trains."""
    rule = Divergence(steps)
    return next((index for index, loss in enumerate(losses) if rule.update(loss)), None)
