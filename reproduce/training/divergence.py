"""The rules by which a training counts as failed.

The paper says of some runs that they "only train" under certain conditions, and gives no rule for failure. So the rules
are this project's own:

    loss         A loss that is not finite fails the run at once.
    losses       High losses in `patience` consecutive steps fail the run. Patience is 1,000 of the paper's 80,000
                 steps, the same share of a shorter run, and at least 10 steps. Losses are compared with their smallest
                 median over `patience` steps. A loss is high when it is more than twice that median, and when a
                 quarter of what training had gained by then is lost again. The second condition is needed because
                 noise alone doubles a loss near zero, which is where a squared error ends. The median is needed because
                 a single batch of easy text can have a loss far below all others.
    gradients    Gradients that are not finite in `patience` consecutive steps fail the run, where such steps are
                 skipped. In float16 the gradient scaler skips them, so a run that cannot recover would skip every step
                 to its end while its loss looks healthy. In the other precisions no step is skipped, and the losses
                 that follow show the failure.

A step is judged before it is taken, and a step that fails is not taken. The weights of a failed run are therefore those
with which the failing loss was computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median

FACTOR = 2.0
"""A high loss is more than this many times the smallest median."""
LOST = 0.25
"""A high loss gives up more than this share of the decrease from the first loss to the smallest median."""


@dataclass
class Divergence:
    """The state of the rules, which is updated step by step. A checkpoint stores exactly its fields."""

    steps: int
    """Number of steps of the run."""
    recent: list[float] = field(default_factory=list)
    """The last losses, at most `patience` of them."""
    minimum: float = math.inf
    """Smallest median of `patience` consecutive losses so far."""
    first: float | None = None
    """The first loss. What training has gained is measured from it."""
    skipped: int = 0
    """Number of consecutive skipped steps, up to the last step."""

    @property
    def patience(self) -> int:
        """Number of consecutive steps that fail a run, and over which the median of the losses is taken."""
        return max(10, self.steps * 1_000 // 80_000)

    def update(self, loss: float, *, skipped: bool = False) -> bool:
        """Update the rules with the next step, and return whether the run fails at it.

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
        # Taking in the newest median first hides no failure: a window of high losses has a high median.
        self.minimum = min(self.minimum, median(self.recent))
        bound = max(FACTOR * self.minimum, self.minimum + LOST * (self.first - self.minimum))
        return min(self.recent) > bound  # every loss of the window is high
