"""The work of a measurement on a text: it measures a checkpoint, and writes a trace of one step in two columns.

    split "probe"      metric -> layer, over all positions
    split "skipped"    the same without the first positions of each sequence

A metric at a point inside the blocks is called `point/metric`. The worst neurons and the tokens on which they fire are
in the provenance, since they are text and not numbers over steps.
"""

from __future__ import annotations

import time
from typing import Any

from reproduce.checkpoints.measuring import Measured, measure_checkpoint, sequences
from reproduce.checkpoints.opening import Dtype, load
from reproduce.config import Precision
from reproduce.data.hub import may_not_download
from reproduce.environment import environment
from reproduce.job_config import MeasureConfig, RunParent
from reproduce.jobs.device import pick_device
from reproduce.measuring.observer import STREAM
from reproduce.measuring.streaming import COLUMNS
from reproduce.processes import StopAsked
from reproduce.store.runs import RunFolder, Store
from reproduce.store.trace import TraceWriter
from reproduce.training.train import Interrupted

DTYPES: dict[Precision, Dtype] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
SPLITS = dict(zip(COLUMNS, ("probe", "skipped"), strict=True))
"""Column -> split of the trace."""


def work(folder: RunFolder, config: MeasureConfig, stop: StopAsked) -> dict[str, Any]:
    """Measure the model that `config` names on its text, write the trace to `folder`, and return its provenance.

    Raises:
        Interrupted: `stop` returned True. No state is saved, since a measurement takes little time.
        OfeError: the model or the text is not there, cannot be opened, or does not fit.
    """
    assert config.text is not None
    begin = time.perf_counter()
    offline, parent = may_not_download(False), config.parent
    options = {} if isinstance(parent, RunParent) else {
        "allow_pickle": parent.allow_pickle, "trust_remote_code": parent.trust_remote_code
    }  # fmt: skip
    store = Store.of(folder)
    opened = load(parent, store=store, dtype=DTYPES[config.precision], device=pick_device(), offline=offline, **options)
    tokens = sequences(opened, config.text, config.examples, offline=offline)
    measured = measure_checkpoint(opened, tokens, config, batch=environment().micro_batch, stop=stop)
    if measured is None:
        raise Interrupted(config.last_step)
    _write(folder, config.last_step, measured)
    int8 = measured.reading.int8
    return {
        "data": {"source": config.text.source, "description": "", "fingerprint": config.text.fingerprint},
        "seconds": time.perf_counter() - begin,
        "trained_steps": 0,
        "parameters": sum(parameter.numel() for parameter in opened.module.parameters()),
        "precision": config.precision,
        "model": {
            "architecture": type(opened.module).__name__,
            "blocks": opened.structure.path,
            "layers": opened.structure.depth,
            "width": opened.structure.width,
            "unused_tensors": list(opened.unused),
        },
        "neurons": measured.neurons,
        "int8": None if int8 is None else {**int8._asdict(), "cost_db": int8.cost_db},
    }


def _write(folder: RunFolder, step: int, measured: Measured) -> None:
    with TraceWriter(folder.path) as writer:
        for column, split in SPLITS.items():
            values: dict[str, dict[str, float]] = {}
            for point, layer, columns in measured.reading.layers:
                for metric, value in columns[column].items():
                    values.setdefault(metric if point == STREAM else f"{point}/{metric}", {})[layer] = value
            writer.record(step, split, values)
        for layer, moments in measured.reading.moments.items():
            writer.moments(step, layer, moments)
