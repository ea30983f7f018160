"""An optimiser that is not the package's own, and what there is to do for one: this class and a row in the table.

Run as a program, it trains a smoke run of figure 2 with it: `python -m tests.optim.sign_momentum TEXT HOME`.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reproduce.optim.base import PerParameter
from reproduce.optim.records import OPTIMIZERS, GroupRule, OptimizerRecord

if TYPE_CHECKING:
    from reproduce.config import OptimizerConfig


class SignMomentum(PerParameter):
    """M <- b1 M + (1 - b1) G;  W <- W - lr sign(M) for matrices, W <- W - lr M for all else."""

    def __init__(self, groups: list[dict[str, Any]], config: OptimizerConfig) -> None:
        super().__init__(groups, {"lr": config.lr, "beta1": config.beta1, "weight_decay": 0.0})

    def update(self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state["M"] = torch.zeros_like(weight)
        M = state["M"].lerp_(gradient, 1 - group["beta1"])
        weight.sub_(M.sign() if group["role"] == "matrix" else M, alpha=group["lr"])


RECORD = OptimizerRecord(
    "tests.optim.sign_momentum:SignMomentum",
    ("beta1",),
    elementwise=True,
    state_size=lambda shape, config: math.prod(shape),
    group_rules={"matrix": GroupRule(decays=True, rate_scale=0.1)},
)


def main(text: Path, home: Path) -> None:
    # The row has to be there before the configuration is loaded, as a row of the table itself is.
    assert "reproduce.config" not in sys.modules
    OPTIMIZERS["sign-momentum"] = RECORD
    from reproduce.plan.footprint import footprint
    from reproduce.training.tasks import build_task
    from reproduce.training.train import Execution, Training
    from tests.runs import create, tiny_run

    run = tiny_run(text, "optimizer.name=sign-momentum", "optimizer.lr=0.001", "optimizer.weight_decay=0")
    task, _ = build_task(run.config, torch.device("cpu"))
    training = Training(run.config, task, create(home, run), Execution(torch.device("cpu")))
    before = {name: parameter.detach().clone() for name, parameter in task.model.named_parameters()}
    training.step = run.config.schedule.warmup(run.config.steps)  # a step with the peak rate
    training._differentiate()
    training._take()
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in task.model.named_parameters()}
    outcome = training.run()
    print(
        json.dumps(
            {
                "moved": moved,
                "step": outcome.step,
                "failed_step": outcome.failed_step,
                "state": footprint(run.config).optimizer,
                "weights": footprint(run.config).weights,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
