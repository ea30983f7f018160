"""The live trace of a run in training: two append-only files with one JSON record in each line.

    trace.jsonl     {"step": 12, "split": "train", "values": {"loss": 6.1}}
                    {"step": 12, "split": "probe", "values": {"kurtosis": {"1": 1.02, "unembed": 1.4}}}
    moments.jsonl   {"step": 12, "layer": "1", "second_moment": [0.98, ...]}

Every record is passed to the operating system before the next step begins, so a killed process loses at most the line
that it was writing. A checkpoint stores `TraceWriter.position()`. A process that resumes from it truncates both files
to that position, and the trace continues as if it had not been interrupted. Values that are not finite are written as
the strings "nan", "inf" and "-inf" (`reproduce.store.json_text`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Self

from reproduce.errors import OfeError
from reproduce.store.home import explain_os_errors
from reproduce.store.json_text import dumps, loads
from reproduce.store.layout import LIVE_MOMENTS, LIVE_TRACE
from reproduce.store.regular import bytes_of

if TYPE_CHECKING:
    import pandas as pd


class Row(NamedTuple):
    """One number of a trace in long form."""

    step: int
    """Number of optimiser steps taken. 0 is the initialisation."""
    split: str
    metric: str
    layer: str
    """"1" to "L", "unembed", or "" for a metric without layers."""
    value: float


class Moment(NamedTuple):
    """Mean square of each neuron of a layer over the probe batch, (d,)."""

    step: int
    layer: str
    second_moment: list[float]


def layer_order(layer: str) -> int:
    """Sorting key of layer names: no layer first, then the blocks by number, and "unembed" last."""
    if layer == "":
        return 0
    return 1_000_000 if layer == "unembed" else int(layer)


class TraceWriter:
    """Appends records to the live trace of the run in `folder`.

    A new writer starts an empty trace and drops that of an earlier attempt, since a run without a checkpoint starts
    again at step 0. `resume` keeps the records up to the checkpoint.

    Raises:
        OfeError: the disk is full or cannot be written. All methods that write raise it too.
    """

    def __init__(self, folder: Path) -> None:
        self._open(folder, {LIVE_TRACE: 0, LIVE_MOMENTS: 0})

    @classmethod
    def resume(cls, folder: Path, position: Mapping[str, int]) -> Self:
        """A writer that continues the trace at `position` and drops every later record.

        Raises:
            OfeError: a file is shorter than `position` says.
        """
        writer = cls.__new__(cls)
        writer._open(folder, position)
        return writer

    def _open(self, folder: Path, position: Mapping[str, int]) -> None:
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        for name in (LIVE_TRACE, LIVE_MOMENTS):
            path = folder / name
            with explain_os_errors(path):
                # Unbuffered, or else closing the file would try again to write what a full disk has refused.
                file = self._files[name] = path.open("ab", buffering=0)
                if file.seek(0, os.SEEK_END) < position[name]:  # truncating would fill the gap with zeros
                    self.close()
                    raise OfeError(
                        f"{path} is shorter than the checkpoint beside it expects",
                        hint=f"remove {folder} to train the run again",
                    )
                file.truncate(position[name])
                file.seek(position[name])

    def record(self, step: int, split: str, values: Mapping[str, float | Mapping[str, float]]) -> None:
        """Append the metrics of one split at one step: `{"loss": 6.1}`, or `{"kurtosis": {"1": 1.02}}` by layer."""
        plain = {
            metric: {layer: float(item) for layer, item in value.items()}
            if isinstance(value, Mapping)
            else float(value)
            for metric, value in values.items()
        }
        self._append(LIVE_TRACE, {"step": step, "split": split, "values": plain})

    def moments(self, step: int, layer: str, second_moment: Sequence[float]) -> None:
        """Append the mean square (d,) of each neuron of `layer`, see `reproduce.store.moments` for its use."""
        values = [float(item) for item in second_moment]
        self._append(LIVE_MOMENTS, {"step": step, "layer": layer, "second_moment": values})

    def _append(self, name: str, record: dict[str, Any]) -> None:
        line = dumps(record).encode() + b"\n"
        with explain_os_errors(self._folder / name):
            while line:  # an unbuffered write may write only a part
                line = line[self._files[name].write(line) :]

    def position(self) -> dict[str, int]:
        """The length of both files in bytes, for a checkpoint. It waits until all records are on the disk."""
        with explain_os_errors(self._folder):
            for file in self._files.values():
                os.fsync(file.fileno())
        return {name: file.tell() for name, file in self._files.items()}

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def read_rows(folder: Path) -> list[Row]:
    """The live trace of `folder` in long form, ordered by step, split, metric and layer.

    Raises:
        OfeError: a line is not a record. An unfinished last line is left out, and is no error.
    """
    rows: list[Row] = []
    for record in _records(folder / LIVE_TRACE):
        for metric, value in record["values"].items():
            by_layer = value if isinstance(value, dict) else {"": value}
            rows += [
                Row(record["step"], record["split"], metric, layer, float(item)) for layer, item in by_layer.items()
            ]
    return sorted(rows, key=lambda row: (row.step, row.split, row.metric, layer_order(row.layer)))


def read_moments(folder: Path) -> list[Moment]:
    """The live second moments of `folder`, ordered by step and layer.

    Raises:
        OfeError: a line is not a record. An unfinished last line is left out, and is no error.
    """
    moments = [
        Moment(record["step"], record["layer"], [float(item) for item in record["second_moment"]])
        for record in _records(folder / LIVE_MOMENTS)
    ]
    return sorted(moments, key=lambda moment: (moment.step, layer_order(moment.layer)))


def read_live(folder: Path) -> pd.DataFrame:
    """The live trace of `folder` as a frame with columns step, split, metric, layer and value."""
    import pandas as pd

    frame = pd.DataFrame(read_rows(folder), columns=list(Row._fields))
    return frame.astype({"step": "int32", "split": "str", "metric": "str", "layer": "str", "value": "float64"})


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a live file, without a last line that is still being written. A missing file has none."""
    if not path.exists():
        return
    *lines, _unfinished = bytes_of(path).split(b"\n")  # the part after the last line end is empty or unfinished
    for number, line in enumerate(lines, start=1):
        try:
            yield loads(line)
        except ValueError as error:
            raise OfeError(
                f"{path} has a damaged record in line {number}",
                hint=f"remove {path.parent} to train the run again",
            ) from error
