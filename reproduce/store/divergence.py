"""When a training counts as failed.

Rule (a choice of this project; the paper speaks of runs that "only train" under some conditions and gives none):
a loss that is not finite, or high losses for 1,000 steps on end out of the paper's 80,000. A loss is high that lies
above twice the running minimum and has lost a quarter of what training had gained: near zero, where a squared error
ends, and in small batches noise alone doubles a loss. Shorter runs are given the same share of their steps, and never
fewer than 10.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

FACTOR = 2.0
LOST = 0.25


@dataclass
class Divergence:
    """The rule, one loss at a time; its fields are all that a checkpoint has to keep of it."""

    steps: int
    """Steps of the run."""
    minimum: float = math.inf
    """Smallest loss so far."""
    streak: int = 0
    """High losses in a row."""
    first: float | None = None
    """The first loss; what training gains is counted from it."""

    @property
    def patience(self) -> int:
        """Steps in a row after which a high loss counts as failure."""
        return max(10, self.steps * 1_000 // 80_000)

    def update(self, loss: float) -> bool:
        """Take in the next step's loss and say whether the run has failed with it."""
        if not math.isfinite(loss):
            return True
        self.first = loss if self.first is None else self.first
        self.minimum = min(self.minimum, loss)
        bound = max(FACTOR * self.minimum, self.minimum + LOST * (self.first - self.minimum))
        self.streak = self.streak + 1 if loss > bound else 0
        return self.streak >= self.patience


def diverged(losses: Iterable[float], steps: int) -> int | None:
    """Index of the loss with which a run of `steps` steps has failed, or None for a run that trains."""
    rule = Divergence(steps)
    return next((index for index, loss in enumerate(losses) if rule.update(loss)), None)
