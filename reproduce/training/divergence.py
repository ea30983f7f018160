"""When a training counts as failed.

Rule (a choice of this project; the paper speaks of runs that "only train" under some conditions and gives none):
a loss that is not finite, or high losses for 1,000 steps on end out of the paper's 80,000. Shorter runs are given the
same share of their steps, and never fewer than 10. A loss is high that lies above twice the smallest median over as
many steps, and has lost a quarter of what training had gained: near zero, where a squared error ends, noise alone
doubles a loss. The smallest median, since one batch of easy text has a loss far below all others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

FACTOR = 2.0
LOST = 0.25


@dataclass
class Divergence:
    """The rule, one loss at a time; its fields are all that a checkpoint has to keep of it."""

    steps: int
    """Steps of the run."""
    recent: list[float] = field(default_factory=list)
    """The last losses, at most `patience` of them."""
    minimum: float = math.inf
    """Smallest median so far."""
    first: float | None = None
    """The first loss; what training gains is counted from it."""

    @property
    def patience(self) -> int:
        """Steps in a row after which high losses count as failure, and over which a median is taken."""
        return max(10, self.steps * 1_000 // 80_000)

    def update(self, loss: float) -> bool:
        """Take in the next step's loss and say whether the run has failed with it."""
        if not math.isfinite(loss):
            return True
        self.first = loss if self.first is None else self.first
        self.recent = [*self.recent[-(self.patience - 1) :], loss]
        if len(self.recent) < self.patience:
            return False
        self.minimum = min(self.minimum, median(self.recent))
        bound = max(FACTOR * self.minimum, self.minimum + LOST * (self.first - self.minimum))
        return min(self.recent) > bound


def diverged(losses: Iterable[float], steps: int) -> int | None:
    """Index of the loss with which a run of `steps` steps has failed, or None for a run that trains."""
    rule = Divergence(steps)
    return next((index for index, loss in enumerate(losses) if rule.update(loss)), None)
