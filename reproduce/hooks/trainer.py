"""A callback for `transformers.Trainer` that logs outlier features every n steps.

    trainer = Trainer(model, arguments, train_dataset=data)
    trainer.add_callback(OutlierCallback(trainer.log, every=100))

Values go where the trainer logs, as `outliers/kurtosis/3` for the input of block 3, and as
`outliers/kurtosis_skipped/3` without the first position of each sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from reproduce.hooks.probe import OutlierProbe, outlier_probe


class OutlierCallback(TrainerCallback):
    """Measures the training batches of every n-th optimiser step, and logs the values.

    All micro-batches of that step count together. Evaluations are not measured. Of several processes, the first logs
    what it has seen of its own batches.

    Args:
        log: is given the values of a measured step by name; the method `log` of the trainer, as a rule.
        every: number of optimiser steps from one measured step to the next.
        prefix: what the names of the values begin with.
        options: further arguments of `reproduce.hooks.outlier_probe`.
    """

    def __init__(
        self, log: Callable[[dict[str, float]], object], *, every: int = 100, prefix: str = "outliers", **options: Any
    ) -> None:
        self.log, self.every, self.prefix, self.options = log, every, prefix, options
        self.probe: OutlierProbe | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.probe = outlier_probe(rest["model"], every=self.every, **self.options)
        self.probe.steps = state.global_step  # above 0 in a training that is continued

    def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        assert self.probe is not None
        self.probe.reset()  # of the forward passes of an evaluation

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        assert self.probe is not None
        values = self.probe.step(self.prefix)
        if values is not None and state.is_world_process_zero:
            self.log(values)

    def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if self.probe is not None:
            self.probe.close()
