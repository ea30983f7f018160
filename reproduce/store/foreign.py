"""Traces that other programs wrote, from CSV or JSON lines, as the rows of a frame.

Two forms are read, with or without a layer for each row:

    long    step,metric,layer,value      as `ofe cache trace` prints it; a column `split` may stand there too
    wide    step,layer,kurtosis,...      one column for each metric, by its name in the table of metrics

The log of the hooks (`reproduce.hooks`) is of the wide form, with a column for each metric and layer:

    step,outliers/kurtosis/1,outliers/kurtosis/2,outliers/kurtosis/unembed,...

So are the `trainer_state.json` of `transformers.Trainer`, whose `log_history` holds such lines, and what W&B exports,
which names the step `_step`. Values of points inside blocks (`outliers/attn_out/kurtosis/1`) and those without the
first position (`outliers/kurtosis_skipped/1`) are left out, because figures show neither.

The CSV of `ofe measure` is of the long form. Of its rows those count that are of all positions and of the residual
stream, which is what figures show.

Blanks around names and cells count for nothing, and no column may be named twice.

A metric is named as specs name it (`kurtosis`, `eval_loss`), or as a trace does (`loss` of split `eval`). An empty
cell, and in JSON lines a missing field, is a value that was not recorded.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from reproduce.errors import OfeError
from reproduce.metrics.table import METRICS
from reproduce.store.json_text import loads

_OWN = ("step", "split", "layer", "metric", "value", "positions", "point", "_step", "_runtime", "_timestamp")
"""Columns that are not metrics."""
_STEP = {"step", "_step"}
"""Names of the column that holds the step; W&B writes the second one."""
_STEPS = 2**53
"""Steps from here on are not told apart by a number of 64 bits."""
_SHOWN = {"positions": "all", "point": "residual"}
"""Column of the CSV of `ofe measure` -> the value that a row must have there to be read."""

HOOK_POINTS = ("attn_out", "mlp_out", "down_in", "q", "k")
"""Places inside blocks that the hooks can measure (`reproduce.checkpoints.points`, which needs torch)."""


class ForeignTrace(NamedTuple):
    """What was read of a file."""

    rows: pd.DataFrame
    """Columns step, split, metric, layer and value."""
    unknown: list[str]
    """The names of the columns that are no metric and were left out; empty for a column without a name."""
    repeated: int
    """Values that were left out, since a later line has another one at the same step, of the same metric and layer."""


def read_foreign_trace(path: Path) -> ForeignTrace:
    """The rows of a file, and what of it was left out.

    Raises:
        OfeError: the file cannot be read, or a line of it says nothing that can be drawn (exit code 2).
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise OfeError(f"{path} is not text in UTF-8", exit_code=2) from None
    except OSError as error:
        raise OfeError(f"cannot read {path}: {error.strerror}", exit_code=2) from None
    if path.suffix in (".jsonl", ".json", ".ndjson"):
        records = list(_trainer_state(text) or _json_lines(path, text))
    else:
        records = list(_csv(path, text))
    if not records:
        raise OfeError(f"{path} holds no values", hint="it needs a line for each step", exit_code=2)
    unknown: dict[str, None] = {}
    rows = [row for line, record in records for row in _rows(f"{path}:{line}", record, unknown)]
    if not rows:
        meant = [f"{name} is of another split than its line says" for name in unknown if name in METRICS]
        close = {name: difflib.get_close_matches(name, METRICS, n=1) for name in unknown if name not in METRICS}
        meant += [f"{name} is perhaps {found[0]}" for name, found in close.items() if found]
        hint = "; ".join(meant) or f"name columns as specs name metrics: {', '.join(list(METRICS)[:5])}, ..."
        raise OfeError(f"{path} holds no metric", hint=hint, exit_code=2)
    place = ["step", "split", "metric", "layer"]
    frame = pd.DataFrame(rows, columns=[*place, "value"])
    last = frame.drop_duplicates(place, keep="last")
    return ForeignTrace(last, list(unknown), len(frame.drop_duplicates()) - len(last))


def _csv(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    lines = csv.reader(io.StringIO(text, newline=""))
    hint = "the first line names the columns, such as step,layer,kurtosis"
    try:
        names = [name.strip() for name in next(lines, [])]
        if _STEP.isdisjoint(names):
            raise OfeError(f"{path}:1 has no column step", hint=hint, exit_code=2)
        twice = next((name for name in names if name and names.count(name) > 1), None)
        if twice is not None:
            raise OfeError(f"{path}:1 names the column {twice} twice", hint="remove one of the two", exit_code=2)
        for cells in lines:
            if len(cells) > len(names):
                raise OfeError(f"{path}:{lines.line_num} has more cells than the first line names", exit_code=2)
            if cells:
                yield lines.line_num, dict(zip(names, map(str.strip, cells), strict=False))
    except csv.Error as error:
        raise OfeError(f"{path}:{lines.line_num} is no line of a CSV: {error}", hint=hint, exit_code=2) from None


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):  # other line ends may stand in the texts of JSON
        if not line.strip():
            continue
        try:
            record = loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or _STEP.isdisjoint(record):
            hint = 'each line is an object such as {"step": 100, "layer": 2, "kurtosis": 3.1}'
            raise OfeError(f"{path}:{number} is no JSON object with a step", hint=hint, exit_code=2)
        yield number, record


def _trainer_state(text: str) -> list[tuple[int, Mapping[str, Any]]]:
    """The entries of the `log_history` in a `trainer_state.json`, counted from 1; none if the text is another file."""
    try:
        state = loads(text)
    except ValueError:
        return []
    history = state.get("log_history") if isinstance(state, dict) else None
    if not isinstance(history, list):
        return []
    return [
        (number, entry) for number, entry in enumerate(history, start=1) if isinstance(entry, dict) and "step" in entry
    ]


def _rows(place: str, record: Mapping[str, Any], unknown: dict[str, None]) -> Iterator[tuple[Any, ...]]:
    """The rows that one line stands for. Names that are no metric are added to `unknown`."""
    if any(record.get(name) not in (None, "", value) for name, value in _SHOWN.items()):
        return
    step, layer = _step(place, record.get("step", record.get("_step"))), _layer(place, record.get("layer"))
    split = str(record.get("split") or "")
    if "metric" in record:
        given: Iterable[tuple[str, Any]] = [(str(record["metric"]), record.get("value"))]
    else:
        given = [(name, value) for name, value in record.items() if name not in _OWN]
    for name, value in given:
        hook = _of_hook(name)
        if hook is not None and not hook.shown:
            continue
        found = _place(name if hook is None else hook.metric, split)
        if found is None:
            unknown[name] = None
        elif (number := _number(place, name, value)) is not None:
            yield step, *found, layer if hook is None else hook.layer, number


class _HookName(NamedTuple):
    """The parts of a name under which the hooks log a value, such as outliers/kurtosis/3."""

    metric: str
    layer: str
    shown: bool
    """Whether figures show the value, which is of the residual stream and of all positions."""


def _of_hook(name: str) -> _HookName | None:
    """The parts of `PREFIX/[POINT/]METRIC/LAYER`, or None if `name` is none such. Trainers put `train/` before it."""
    *before, metric, layer = name.split("/") if name.count("/") >= 2 else ("", "")
    if not before or not (layer == "unembed" or is_block(layer)):
        return None
    shown = not metric.endswith("_skipped") and before[-1] not in HOOK_POINTS
    return _HookName(metric, layer, shown)


def _place(name: str, split: str) -> tuple[str, str] | None:
    """Split and name under which a trace holds a metric; None if there is no such metric."""
    for metric in METRICS.values():
        if metric.place and (metric.place == (split, name) or (metric.name == name and split in ("", metric.place[0]))):
            return metric.place
    return None


def _step(place: str, value: Any) -> int:
    try:
        step = _float(value)
    except ValueError:
        step = math.nan
    if not step.is_integer() or not 0 <= step < _STEPS:
        raise OfeError(f"{place}: expected a step, which is a whole number from 0, got {_short(value)}", exit_code=2)
    return int(step)


def is_block(text: str) -> bool:
    """Whether `text` is the number of a block, counted from 1, in digits 0 to 9: others are digits to Python too."""
    return text.isascii() and text.isdecimal() and len(text) <= 6 and int(text) > 0


def _layer(place: str, value: Any) -> str:
    text = "" if value is None else str(value).strip().removesuffix(".0")
    if text in ("", "unembed") or is_block(text):
        return text
    hint = "count blocks from 1, write unembed for the input of the output matrix, or leave the cell empty"
    raise OfeError(f"{place}: expected a layer, got {_short(value)}", hint=hint, exit_code=2)


def _number(place: str, name: str, value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        return _float(value)
    except ValueError:
        raise OfeError(f"{place}: expected a number for {name}, got {_short(value)}", exit_code=2) from None


def _float(value: Any) -> float:
    """The number that a cell or a JSON value stands for.

    Raises:
        ValueError: it is none, or a whole number beyond all floats. Python would take `true` and `1_0` for numbers too.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str) or (isinstance(value, str) and "_" in value):
        raise ValueError
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError from error


def _short(value: Any) -> str:
    """A value as a message shows it."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
