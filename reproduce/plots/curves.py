"""From the tidy frame to curves: pick metrics and layers, sum, accumulate, smooth, and join the seeds.

A curve is what one line of a figure needs. A figure leaves nothing out in silence: each reason for a gap is in
`Curves.notes`, which the figure prints below itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reproduce.claims.quantity import TAIL
from reproduce.config import RunConfig
from reproduce.errors import SpecError
from reproduce.metrics.table import metric_named, terms
from reproduce.plots.names import metric_label
from reproduce.specs.schema import Axis, Layers, LinePlot
from reproduce.store.frame import metric_rows
from reproduce.units import count

if TYPE_CHECKING:
    from reproduce.specs.runs import Guest, Resolved, ResolvedRun
    from reproduce.store.frame import Loaded

_TRAIN_IMAGES = {"cifar10": 50_000, "imagenet-1k": 1_281_167}
"""Training images of the published sets; for any other source `data.train_images` says how many make an epoch."""
_DRAWN_POINTS = 1500
"""Most points that a line is drawn with; a picture shows no more of them."""


@dataclass(frozen=True)
class Stray:
    """The line of one seed that diverged. It ends at the last point that was recorded."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Curve:
    """One quantity of one run and layer over x.

    All arrays of a curve have one entry for each drawn point. A value that the axis cannot show is NaN.
    """

    run: str
    setting: str
    layer: str
    axis: int
    """Index into `plot.y`."""
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    """Mean, smallest and largest value over the seeds that trained to their end; empty where none did."""
    seeds: int
    """The number of seeds that trained to their end."""
    window: int = 1
    """Length of the running mean in steps; 1 where there is no running mean."""
    raw: tuple[np.ndarray, np.ndarray] | None = None
    """x and y of the values behind a running mean, where the run has a single seed."""
    strays: tuple[Stray, ...] = ()
    """The seeds that diverged. They take no part in the mean."""


@dataclass(frozen=True)
class Curves:
    """All curves of a figure, and notes on what could not be drawn."""

    curves: list[Curve]
    notes: list[str]


def build(plot: LinePlot, resolved: Resolved, loaded: Loaded, smooth: int | None = None) -> Curves:
    """The curves of `plot`, ordered by axis, then by run as the spec lists them, then by depth of the layer.

    Args:
        smooth: length in steps of a running mean over every metric; if None, only noisy metrics have one.

    Raises:
        SpecError: the plot asks for an x metric that is neither step nor epoch, or for epochs of a run without any.
    """
    notes: list[str] = []
    curves: list[Curve] = []
    first = {run.name: run for run in reversed(resolved.lines)}
    traced = {run for run, _ in loaded.facts}
    runs = [run for run in dict.fromkeys(run.name for run in resolved.lines) if run in traced]
    limit = {str(scale): end for scale, end in plot.x_max.items()}.get(resolved.scale)
    cut: list[str] = []
    for index, axis in enumerate(plot.y):
        values = select_layers(quantity(loaded.frame, axis), plot.layers)
        values = values.assign(x=_x_values(values, plot.x, first))
        if limit is not None and (values["x"] > limit).any():
            values = values[values["x"] <= limit]
            cut = [f"shown up to {plot.x.metric} {limit:,}"]
        hidden = 0
        for name in runs:
            of_run = values[values["run"] == name]
            if of_run.empty:
                notes.append(f"{first[name].label}: no {metric_label(axis.metric)} recorded")
            for layer in sorted(of_run["layer"].unique(), key=depth):
                of_layer, run = of_run[of_run["layer"] == layer], first[name]
                window = window_of(axis, run.last_step) if smooth is None else smooth
                length = window if smooth is None else _points(smooth, of_layer["step"])
                drawn, unseen = _curve(of_layer, axis, index, run, layer, loaded, window, length)
                curves.append(drawn)
                hidden += unseen
        if hidden:
            reason = "0 or below, or not finite" if axis.scale == "log" else "not finite"
            notes.append(f"{metric_label(axis.metric)}: {count(hidden, 'value')} not drawn ({reason})")
    return Curves(curves, [*cut, *notes, *_absent_layers(plot.layers, curves)])


def quantity(frame: pd.DataFrame, axis: Axis) -> pd.DataFrame:
    """The values of one axis: a metric or a sum such as `a + b`, in the form and accumulation that the axis asks for.

    Args:
        frame: tidy frame of `reproduce.store.frame`.

    Returns:
        Columns run, seed, step, layer, value, sorted by run, seed, layer and step.
    """
    total = metric_rows(frame, axis.metric)[["run", "seed", "step", "layer", "value"]]
    if axis.form == "variance":
        total = total.assign(value=total["value"] - 1)
    total = total.sort_values(["run", "seed", "layer", "step"], kind="stable", ignore_index=True)
    if axis.cumulative:
        total["value"] = total.groupby(["run", "seed", "layer"], sort=False)["value"].cumsum()
    return total


def depth(layer: str) -> tuple[int, int]:
    """Sort key of a layer: blocks by number, then the unembedding, then what has no depth, such as a mean."""
    return (0, int(layer)) if layer.isdigit() else (1, 0) if layer == "unembed" else (2, 0)


def select_layers(values: pd.DataFrame, layers: Layers | None) -> pd.DataFrame:
    """The rows of `values` that a plot shows. Metrics without layers pass through whatever `layers` says."""
    blocks = values["layer"].str.isdigit()
    layered = blocks | (values["layer"] == "unembed")
    match layers:
        case None | "all":
            return values
        case "blocks":
            return values[blocks | ~layered]
        case "mean":
            mean = values[blocks].groupby(["run", "seed", "step"], sort=False, as_index=False)["value"].mean()
            return pd.concat([values[~layered], mean.assign(layer="mean")], ignore_index=True)
        case _:
            return values[values["layer"].isin([str(layer) for layer in layers]) | ~layered]


def _absent_layers(layers: Layers | None, curves: Sequence[Curve]) -> list[str]:
    """A note on the layers that the plot lists and no run has."""
    found = {curve.layer for curve in curves if curve.layer}
    if not isinstance(layers, list) or not found:
        return []
    absent = [str(layer) for layer in layers if str(layer) not in found]
    return [f"no layer {', '.join(absent)} in these runs"] if absent else []


def _x_values(values: pd.DataFrame, axis: Axis, first: dict[str, ResolvedRun | Guest]) -> pd.Series:
    if axis.metric == "step":
        return values["step"].astype(float)
    if axis.metric == "epoch":
        lengths = {name: _steps_per_epoch_of(run) for name, run in first.items()}
        return values["step"] / values["run"].map(lengths)
    raise SpecError(f"a line plot has no x axis {axis.metric}", hint="set plot.x.metric to step or epoch")


def _steps_per_epoch_of(run: ResolvedRun | Guest) -> int:
    if run.training is None:
        raise SpecError(f"{run.label} is a trace of steps, and the figure shows epochs")
    return steps_per_epoch(run.training)


def steps_per_epoch(config: RunConfig) -> int:
    """Optimiser steps in one pass over the training images; its last batch may be smaller and counts as well.

    Raises:
        SpecError: the run is on text, or on images of unknown number.
    """
    data = config.data
    if data.kind != "images":
        raise SpecError("a run on text has no epochs", hint="set plot.x.metric to step")
    images = data.train_images or _TRAIN_IMAGES.get(data.source)
    if images is None:
        raise SpecError(f"nothing says how many images of {data.source} make an epoch", hint="set data.train_images")
    return math.ceil(images / config.batch_size)


# ---------------------------------------------------------------------------------------------------
# One curve


def window_of(axis: Axis, steps: int) -> int:
    """Length in steps of the running mean over a metric in a run of `steps`; 1 where the metric needs none.

    What is measured on a single batch or a single step is noisy. It is averaged over the share of the run that a claim
    averages when it asks for a final value (`TAIL`). The length is odd, so that the window is centred.
    """
    metrics = [metric_named(name) for _, name in terms(axis.metric)]
    noisy = all(metric.single_batch or metric.subject == "update" for metric in metrics)
    return 2 * (round(steps * TAIL) // 2) + 1 if noisy and not axis.cumulative else 1


def _points(steps: int, recorded: pd.Series) -> int:
    """How many points of a curve lie in a running mean over `steps`; odd, so that the window is centred.

    A window that reaches over the whole curve from each of its ends is long enough.
    """
    points = recorded.nunique()
    spacing = float(np.median(np.diff(np.unique(recorded)))) if points > 1 else 1.0
    return 2 * min(round(steps / spacing) // 2, points) + 1


def _curve(
    rows: pd.DataFrame,
    axis: Axis,
    index: int,
    run: ResolvedRun | Guest,
    layer: str,
    loaded: Loaded,
    window: int,
    length: int,
) -> tuple[Curve, int]:
    """The curve of one run and layer, and how many of its points the axis cannot show.

    Args:
        window, length: of the running mean, in steps and in points.
    """
    table = rows.pivot(index="x", columns="seed", values="value")  # one row for each x, one column for each seed
    recorded = int(table.notna().to_numpy().sum()) + int(rows["value"].isna().sum())
    table = table.where(np.isfinite(table))  # infinity would swallow every running mean around it
    smooth = table.rolling(length, center=True, min_periods=1).mean().where(table.notna()) if length > 1 else table
    hidden = recorded - int(table.notna().to_numpy().sum())
    if axis.scale == "log":
        hidden += int((smooth <= 0).to_numpy().sum())

    failed = [seed for seed in table.columns.astype(int) if loaded.facts[run.name, int(seed)].failed]
    finished = smooth.drop(columns=failed)
    drawn = finished.iloc[_thin(len(finished))] if finished.shape[1] else finished.iloc[:0]
    curve = Curve(
        run=run.name,
        setting=run.setting,
        layer=layer,
        axis=index,
        x=drawn.index.to_numpy(),
        mean=_shown(drawn.mean(axis=1), axis),
        low=_shown(drawn.min(axis=1), axis),
        high=_shown(drawn.max(axis=1), axis),
        seeds=finished.shape[1],
        window=window if length > 1 else 1,
        raw=_envelope(table.iloc[:, 0]) if table.shape[1] == 1 and length > 1 else None,
        strays=tuple(_stray(smooth[seed], axis) for seed in failed if smooth[seed].notna().any()),
    )
    return curve, hidden


def _shown(values: pd.Series, axis: Axis) -> np.ndarray:
    """Values with gaps where a log axis has no place for them."""
    return (values.where(values > 0) if axis.scale == "log" else values).to_numpy()


def _stray(line: pd.Series, axis: Axis) -> Stray:
    """The line of a diverged seed as it is drawn."""
    line = line.dropna()
    line = line.iloc[_thin(len(line))]
    return Stray(line.index.to_numpy(), _shown(line, axis))


def _thin(points: int) -> np.ndarray:
    """Indices of at most `_DRAWN_POINTS` points, evenly spaced, with the first and the last."""
    return np.unique(np.linspace(0, points - 1, min(points, _DRAWN_POINTS)).round().astype(int))


def _envelope(raw: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """x and y of a raw line: every point of a short one, every peak and trough of a long one.

    A long line is cut into bins of equal length, and each bin keeps its smallest and its largest value.
    """
    if len(raw) <= _DRAWN_POINTS:
        return raw.index.to_numpy(), raw.to_numpy()
    bins = np.arange(len(raw)) * (_DRAWN_POINTS // 2) // len(raw)
    grouped = pd.DataFrame({"y": raw.to_numpy(), "bin": bins}).dropna().groupby("bin")["y"]
    keep = np.unique(np.concatenate([grouped.idxmin().to_numpy(), grouped.idxmax().to_numpy()]))
    return raw.index.to_numpy()[keep], raw.to_numpy()[keep]
