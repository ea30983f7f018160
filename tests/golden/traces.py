"""One run of 20 steps for each setting, in float32: the numbers of all components together."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from reproduce.config import RunConfig, TextData
from reproduce.data import fingerprint
from reproduce.specs.load import list_experiments
from reproduce.specs.resolve import resolve
from reproduce.specs.runs import ResolvedRun
from reproduce.store.runs import Store
from reproduce.store.trace import read_rows
from reproduce.training.tasks import build_task
from reproduce.training.train import Execution, Training
from tests.golden.components import CPU, Numbers
from tests.runs import write_text_folder

PROBED = (0, 5, 20)
"""Steps whose probes are kept: between two of them nothing happens that the losses do not show."""


@cache
def smoke_runs() -> dict[str, ResolvedRun]:
    """Of each setting the training at smoke scale that comes first in the first experiment that has one, by setting."""
    found: dict[str, ResolvedRun] = {}
    for experiment in list_experiments():
        for run in resolve(experiment, "smoke", seeds=1, fingerprint=lambda data: "").runs:
            found.setdefault(run.setting, run.parent or run)
    return found


def golden_config(setting: str, text: Path) -> RunConfig:
    """The smoke run of `setting` in float32; text is a made-up folder, since the embedded corpus is Python's own."""
    config = smoke_runs()[setting].config
    data = config.data
    if isinstance(data, TextData):
        data = data.model_copy(update={"source": "folder", "path": str(text)})
    data = data.model_copy(update={"fingerprint": fingerprint(data)})
    return config.model_copy(update={"data": data, "precision": "fp32"})


def trace(setting: str) -> Numbers:
    """The trace of the setting's run: `split metric layer` -> steps and values."""
    with tempfile.TemporaryDirectory() as home:
        config = golden_config(setting, write_text_folder(Path(home) / "text"))
        run = ResolvedRun("golden", "golden", setting, "smoke", 0, config, paper_data=False)
        folder = Store(Path(home)).create(run)
        task, _ = build_task(config, CPU)
        outcome = Training(config, task, folder, Execution(CPU)).run()
        assert outcome.failed_step is None
        numbers: Numbers = {}
        for row in read_rows(folder.path):
            # The residual of Eq (5) is rounding itself.
            if row.metric != "eq5_residual" and (row.split != "probe" or row.step in PROBED):
                numbers.setdefault(f"{row.split} {row.metric} {row.layer}".strip(), []).append(row.value)
    return numbers
