"""Whether the panels and lines of a `LinePlot` tell its curves apart, asked before anything is trained.

Every curve has a run, a layer, a metric and a setting. `plot.panels` says which of these decide its panel, and
`plot.series` which of them decides its line there. Curves that share both would be drawn as one line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from reproduce.metrics.table import METRICS, layered, terms
from reproduce.specs.problems import Problem
from reproduce.specs.schema import Facet, Layers, LinePlot


class LineOf(NamedTuple):
    """A run, as far as it decides where its curves are drawn."""

    name: str
    label: str
    setting: str


class _Curve(NamedTuple):
    run: LineOf
    layer: str
    axis: int


def facet_problems(plot: LinePlot, runs: Sequence[LineOf]) -> Iterator[Problem]:
    """What keeps the curves of `plot` from being drawn, if anything; the first case of each kind.

    Args:
        runs: those that the figure shows.
    """
    if len(plot.panels) > 2:
        yield Problem(("plot", "panels"), "has more than two facets, and a grid has two sides")
        return
    if any(name not in METRICS for axis in plot.y for _, name in terms(axis.metric)):
        return  # that is reported by itself
    cells: dict[tuple[str, ...], dict[str, _Curve]] = {}
    for curve in _curves(plot, runs):
        lines = cells.setdefault(tuple(_value(plot, curve, facet) for facet in plot.panels), {})
        line = _value(plot, curve, plot.series)
        if line in lines:
            text, missing = _difference(lines[line], curve)
            place = ("plot", "panels") if plot.panels else ("plot",)
            yield Problem(place, f"{text} would be drawn as one line: add {missing} to panels, or make it the series")
            return
        lines[line] = curve
    for lines in cells.values():
        if len({plot.y[curve.axis].scale for curve in lines.values()}) > 1:
            yield Problem(
                ("plot", "y"), "one panel has both a linear and a log axis: add metric to panels, or use one scale"
            )
            return


def _curves(plot: LinePlot, runs: Sequence[LineOf]) -> Iterator[_Curve]:
    for run in runs:
        for index, axis in enumerate(plot.y):
            for layer in _layers(plot.layers, axis.metric):
                yield _Curve(run, layer, index)


def _layers(layers: Layers | None, metric: str) -> list[str]:
    """The layers of a metric that a plot shows. Where it shows all, two stand for them."""
    if not layered(metric):
        return [""]
    if isinstance(layers, list):
        return [str(layer) for layer in layers]
    # The update of a moment is followed in one layer alone.
    of_one = all(METRICS[name].subject == "update" for _, name in terms(metric))
    return ["mean"] if layers == "mean" or of_one else ["1", "2"]


def _value(plot: LinePlot, curve: _Curve, facet: Facet) -> str:
    """The value of a curve for a facet, as `reproduce.plots.panels` takes it."""
    match facet:
        case "run":  # beside panels of settings, runs of the same label are one series
            return curve.run.label if "setting" in plot.panels else curve.run.name
        case "layer":
            return curve.layer
        case "metric":
            return str(curve.axis)
        case "setting":
            return curve.run.setting


def _difference(one: _Curve, other: _Curve) -> tuple[str, Facet]:
    """What sets two curves apart, in words and as the facet that would tell it."""
    if one.run != other.run:
        return f"runs {one.run.name} and {other.run.name}", "run"
    if one.layer != other.layer:
        return f"layers of {one.run.name}", "layer"
    return f"metrics {one.axis + 1} and {other.axis + 1} of y", "metric"
