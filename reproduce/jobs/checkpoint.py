"""The work of a measurement on a text: it measures a checkpoint, and writes a trace of one step in two columns.

    split "probe"      metric -> layer, over all positions
    split "skipped"    the same without the first positions of each sequence

The weights of a training that are measured as a checkpoint are exported first, to a folder that is removed afterwards.
A metric at a point inside the blocks is called `point/metric`. The worst neurons and the tokens on which they fire are
in the provenance, since they are text and not numbers over steps.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from reproduce.checkpoints.checkpoint import Checkpoint
from reproduce.checkpoints.exporting import export_run
from reproduce.checkpoints.identity import locate
from reproduce.checkpoints.measuring import Measured, measure_checkpoint, sequences
from reproduce.checkpoints.opening import Dtype, load
from reproduce.config import Precision
from reproduce.data.hub import may_not_download
from reproduce.environment import environment
from reproduce.job_config import MeasureConfig, RunParent
from reproduce.jobs.device import pick_device
from reproduce.jobs.lineage import parent_folder
from reproduce.measuring.observer import STREAM
from reproduce.measuring.streaming import COLUMNS
from reproduce.processes import StopAsked
from reproduce.store.runs import RunFolder, Store
from reproduce.store.trace import TraceWriter
from reproduce.store.weights import read_weights
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
    offline = may_not_download(False)
    with ExitStack() as stack:
        opened = _opened(folder, config, stack, offline=offline)
        tokens = sequences(opened, config.text, config.examples, offline=offline)
        measured = measure_checkpoint(opened, tokens, config, batch=environment().micro_batch, stop=stop)
    if measured is None:
        raise Interrupted(config.last_step)
    _write(folder, config.last_step, measured)
    int8 = measured.reading.int8
    return _origin(folder, config) | {
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
        "tokens": hashlib.sha256(tokens.numpy().tobytes()).hexdigest()[:16],
        "neurons": measured.neurons,
        "int8": None if int8 is None else {**int8._asdict(), "cost_db": int8.cost_db},
    }


def _opened(folder: RunFolder, config: MeasureConfig, stack: ExitStack, *, offline: bool) -> Checkpoint:
    """The model that is to be measured; what is written for that is removed with `stack`."""
    parent, store = config.parent, Store.of(folder)
    if config.exported:
        assert isinstance(parent, RunParent), "only a training is exported"
        target = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ofe-"))) / "exported"
        export_run(parent_folder(folder, parent), parent.step, target)
        parent = locate(str(target))
    options = {} if isinstance(parent, RunParent) else {
        "allow_pickle": parent.allow_pickle, "trust_remote_code": parent.trust_remote_code
    }  # fmt: skip
    dtype = DTYPES[config.precision]
    return load(parent, store=store, dtype=dtype, device=pick_device(), offline=offline, **options)


def _origin(folder: RunFolder, config: MeasureConfig) -> dict[str, Any]:
    """The provenance of the weights, where a training of the store has them: what they are, and what they took."""
    if not isinstance(config.parent, RunParent):
        return {}
    training, step = parent_folder(folder, config.parent), config.parent.step
    kept = read_weights(training.path)
    return {
        "parent": {
            "name": training.path.name,
            "step": step,
            "weights": kept.files[step][1],
            "same_trace": kept.same_trace,
            "seconds": training.provenance().get("seconds"),
        }
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
