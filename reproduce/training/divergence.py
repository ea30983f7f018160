"""When a training counts as failed.

The paper speaks of runs that "only train" under some conditions and gives no rule, so the rules are this project's:

    loss         A loss that is not finite fails the run at once.
    losses       High losses for `patience` steps on end fail it. Patience is 1,000 steps out of the paper's 80,000,
                 the same share of a shorter run, and never fewer than 10. A loss is high when it lies above twice the
                 smallest median over as many steps, and a quarter of what training had gained is lost. The second
                 condition is there because noise alone doubles a loss near zero, where a squared error ends. It is the
                 smallest median, and not the smallest loss, because one batch of easy text has a loss far below all
                 others.
    gradients    Gradients that are not finite for `patience` steps on end fail it, where such steps are skipped. In
                 float16 the gradient scaler skips them, and a run that is past saving would skip all steps to its end
                 with a loss that looks healthy. In the other precisions no step is skipped, and the next losses tell.

A step is judged by what is known before it is taken, and a step that fails is not taken. The run's weights are then
those that the failing loss was computed with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median

FACTOR = 2.0
LOST = 0.25


@dataclass
class Divergence:
    """The state of the rules. It is given one step at a time, and its fields are all that a checkpoint keeps of it."""

    steps: int
    """Steps of the run."""
    recent: list[float] = field(default_factory=list)
    """The last losses, at most `patience` of them."""
    minimum: float = math.inf
    """Smallest median so far."""
    first: float | None = None
    """The first loss; what training gains is counted from it."""
    skipped: int = 0
    """Number of steps up to now, without a gap, that were skipped."""

    @property
    def patience(self) -> int:
        """Steps in a row after which a run has failed, and over which a median of losses is taken."""
        return max(10, self.steps * 1_000 // 80_000)

    def update(self, loss: float, *, skipped: bool = False) -> bool:
        """Take in the next step and return whether the run has failed with it.

        Args:
            loss: the mean loss of the step's batch.
            skipped: whether the step cannot be taken because its gradients are not finite.
        """
        if not math.isfinite(loss):
            return True
        self.skipped = self.skipped + 1 if skipped else 0
        self.first = loss if self.first is None else self.first
        self.recent = [*self.recent[-(self.patience - 1) :], loss]
        if self.skipped >= self.patience:
            return True
        if len(self.recent) < self.patience:
            return False
        self.minimum = min(self.minimum, median(self.recent))
        bound = max(FACTOR * self.minimum, self.minimum + LOST * (self.first - self.minimum))
        return min(self.recent) > bound
