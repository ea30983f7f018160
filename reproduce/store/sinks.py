"""Where the records of a run go: its live trace, and whatever follows a run from outside.

A training writes to a `Sink` and knows no more of it. The live trace (`reproduce.store.trace.TraceWriter`) is the one
that a checkpoint can return to, and the one that is sealed. Others are fed from outside by `replay` and `follow`, so
that nothing that somebody wants to watch with can slow a training down or stop it.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Protocol

from reproduce.store.runs import RunFolder
from reproduce.store.trace import layer_order, read_live

Values = Mapping[str, float | Mapping[str, float]]
"""Metrics of one split at one step: `{"loss": 6.1}`, or `{"kurtosis": {"1": 1.02}}` by layer."""


class Sink(Protocol):
    """What the records of a run are written to."""

    def record(self, step: int, split: str, values: Values) -> None:
        """Take the metrics of one split (train, eval, probe) after so many optimiser steps."""
        ...

    def moments(self, step: int, layer: str, second_moment: Sequence[float]) -> None:
        """Take the mean square of each neuron of a layer."""
        ...

    def close(self) -> None:
        """Take no more."""
        ...


class CsvSink:
    """The trace in long form as CSV: step, split, metric, layer, value. Moments are left out: they are vectors."""

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


def replay(folder: RunFolder, sink: Sink, written: set[tuple[int, str, str]] | None = None) -> None:
    """Write the trace of a run to `sink`: the sealed one, or the live one as far as it is.

    Args:
        written: (step, split, metric) of what is not to be written again; what is written now is added.

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
    """Write the trace of a run to `sink` as it grows, until the run is sealed or nobody works on it any more.

    A training that goes on from a checkpoint repeats some steps and gives the same numbers: they are written once.

    Args:
        sleep: waits between two looks.
    """
    written: set[tuple[int, str, str]] = set()
    while True:
        ended = folder.state != "running"  # asked before the look, so that the look sees what came before the end
        replay(folder, sink, written)
        if ended:
            return
        sleep()
