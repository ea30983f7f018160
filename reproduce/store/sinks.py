"""Sinks: what the records of a run are written to.

A training writes to one sink, its live trace (`reproduce.store.trace.TraceWriter`), which a checkpoint can return to
and which is sealed in the end. Other sinks are fed by `replay` and `follow`, which read the trace from outside. So
nothing that is used to watch a training can slow it down or stop it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Protocol

from reproduce.store.json_text import without_nonfinite
from reproduce.store.runs import RunFolder
from reproduce.store.trace import layer_order, read_live

Values = Mapping[str, float | Mapping[str, float]]
"""Metrics of one split at one step: `{"loss": 6.1}`, or `{"kurtosis": {"1": 1.02}}` by layer."""


class Sink(Protocol):
    """Receiver of the records of a run."""

    def record(self, step: int, split: str, values: Values) -> None:
        """Receive the metrics of one split (train, eval or probe) after `step` optimiser steps."""
        ...

    def moments(self, step: int, layer: str, second_moment: Sequence[float]) -> None:
        """Receive the mean square of each neuron of `layer` after `step` optimiser steps."""
        ...

    def close(self) -> None:
        """End the stream of records."""
        ...


class CsvSink:
    """Writes the trace in long form as CSV with columns step, split, metric, layer and value.

    Second moments are left out, since they are vectors.
    """

    def __init__(self, file: IO[str]) -> None:
        self._rows = csv.writer(file, lineterminator="\n")
        self._rows.writerow(["step", "split", "metric", "layer", "value"])
        self._file = file

    def record(self, step: int, split: str, values: Values) -> None:
        for metric, value in values.items():
            by_layer = value if isinstance(value, Mapping) else {"": value}
            for layer in sorted(by_layer, key=layer_order):
                self._rows.writerow([step, split, metric, layer, repr(float(by_layer[layer]))])
        self._file.flush()

    def moments(self, step: int, layer: str, second_moment: Sequence[float]) -> None:
        pass

    def close(self) -> None:
        self._file.flush()


class WandbSink:
    """Writes one JSON object a line, in the shape that `wandb.log` takes: `{"_step": 100, "probe/kurtosis/2": 3.1}`.

    A name is split, metric and layer. The values of a step and split share a line. A number that is not finite is the
    string that JSON has no number for, as in the history files of W&B. Second moments are left out.

        import json, wandb
        run = wandb.init(project="ofe")
        for line in open("trace.jsonl"):
            values = loads(line)
            run.log(values, step=values.pop("_step"))
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def record(self, step: int, split: str, values: Values) -> None:
        named = {name: without_nonfinite(value) for name, value in flat(split, values).items()}
        self._file.write(json.dumps({"_step": step, **named}, allow_nan=False) + "\n")
        self._file.flush()

    def moments(self, step: int, layer: str, second_moment: Sequence[float]) -> None:
        pass

    def close(self) -> None:
        self._file.flush()


def flat(split: str, values: Values) -> dict[str, float]:
    """The values of one record by `split/metric/layer`; a metric without layers is `split/metric`."""
    named = {}
    for metric, value in values.items():
        by_layer = value if isinstance(value, Mapping) else {"": value}
        for layer in sorted(by_layer, key=layer_order):
            named["/".join(filter(None, (split, metric, layer)))] = float(by_layer[layer])
    return named


def replay(folder: RunFolder, sink: Sink, written: set[tuple[int, str, str]] | None = None) -> None:
    """Write the trace of a run to `sink`. The trace of an unfinished run is written as far as it goes.

    Args:
        written: (step, split, metric) of the records that are left out. The records written now are added to it.

    Raises:
        OfeError: the trace is damaged.
    """
    written = set() if written is None else written
    frame = folder.read_trace() if folder.sealed else read_live(folder.path)
    records: dict[tuple[int, str], dict[str, dict[str, float]]] = {}
    columns = (frame[name].tolist() for name in ("step", "split", "metric", "layer", "value"))
    for step, split, metric, layer, value in zip(*columns, strict=True):
        if (step, split, metric) not in written:
            records.setdefault((step, split), {}).setdefault(metric, {})[layer] = value
    for (step, split), metrics in records.items():
        written.update((step, split, metric) for metric in metrics)
        sink.record(step, split, {name: by[""] if list(by) == [""] else by for name, by in metrics.items()})


def follow(folder: RunFolder, sink: Sink, *, sleep: Callable[[], None]) -> None:
    """Write the trace of a run to `sink` as it grows, until no process works on the run any more.

    A training that resumes from a checkpoint repeats some steps with the same numbers. They are written only once.

    Args:
        sleep: is called to wait between two readings of the trace.

    Raises:
        OfeError: the trace is damaged.
    """
    written: set[tuple[int, str, str]] = set()
    while True:
        # The state is read before the trace. The other way round, records written between the two would be lost.
        ended = folder.state != "running"
        replay(folder, sink, written)
        if ended:
            return
        sleep()
