"""Which curve goes into which panel, as which line.

Every curve has a value for each facet (run, layer, metric, setting). The facets in `plot.panels` decide its panel,
`plot.series` decides its line, and two curves that share both are a mistake in the spec.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reproduce.errors import SpecError
from reproduce.plots.curves import Curve, depth
from reproduce.plots.names import axis_label, block_name, common_label, layer_label
from reproduce.plots.theme import UNEMBED_COLOUR, LineStyle, guest_styles, series_styles, sweep_styles
from reproduce.specs.schema import Facet, LinePlot

if TYPE_CHECKING:
    from reproduce.specs.runs import Resolved


@dataclass(frozen=True)
class Series:
    """One line of the legend."""

    key: str
    label: str
    style: LineStyle
    runs: tuple[str, ...] = ()
    """The runs drawn under this name, where runs are the series."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes and the curves in it, each with the key of its series."""

    row: int
    column: int
    title: str
    runs: tuple[str, ...]
    """The run of the panel where runs are panels, or several runs where settings are panels too; else empty."""
    axis: int
    """Index into `plot.y` of its y axis."""
    curves: tuple[tuple[str, Curve], ...]


@dataclass(frozen=True)
class Arrangement:
    """A grid of panels, and the series that run through them."""

    rows: int
    columns: int
    panels: list[Panel]
    series: list[Series]


def arrange(plot: LinePlot, resolved: Resolved, curves: Sequence[Curve]) -> Arrangement:
    """Lay `curves` out as `plot` says.

    Raises:
        SpecError: the facets leave two curves on one line, or put axes of different scales into one panel.
    """
    facets = _Facets(plot, resolved)
    cells: dict[tuple[str, ...], dict[str, Curve]] = {}
    for curve in curves:
        lines = cells.setdefault(tuple(facets.value(curve, facet) for facet in plot.panels), {})
        line = facets.value(curve, plot.series)
        if line in lines:
            raise SpecError(
                f"{resolved.experiment.id}: {_difference(lines[line], curve)} would be drawn as one line",
                hint=f"plot.panels {list(plot.panels)} and plot.series {plot.series} must tell them apart",
            )
        lines[line] = curve

    values = [
        sorted({key[i] for key in cells}, key=functools.partial(facets.rank, facet))
        for i, facet in enumerate(plot.panels)
    ]
    places: list[tuple[str, ...]] = list(itertools.product(*values))
    match values:
        case [down, across]:
            rows, columns = len(down), len(across)
        case [] | [_]:
            rows, columns = grid_shape(len(places))
        case _:
            raise SpecError(
                f"{resolved.experiment.id}: plot.panels has more than two facets", hint="a grid has two sides"
            )

    panels = []
    for i, key in enumerate(places):
        lines = cells.get(key, {})
        if lines:
            axes = list(dict.fromkeys(curve.axis for curve in lines.values()))
            if len({plot.y[axis].scale for axis in axes}) > 1:
                raise SpecError(
                    f"{resolved.experiment.id}: one panel has both a linear and a log axis",
                    hint="add metric to plot.panels, or give the entries of plot.y the same scale",
                )
            ordered = sorted(lines.items(), key=lambda item: facets.rank(plot.series, item[0]))
            panels.append(
                Panel(
                    row=i // columns,
                    column=i % columns,
                    title=" · ".join(
                        facets.label(facet, value)
                        for facet, value in zip(plot.panels, key, strict=True)
                        if facet != "metric"
                    ),
                    runs=tuple(dict.fromkeys(c.run for c in lines.values())) if "run" in plot.panels else (),
                    axis=axes[0],
                    curves=tuple(ordered),
                )
            )
    return Arrangement(rows, columns, panels, facets.series(curves))


def grid_shape(panels: int) -> tuple[int, int]:
    """Rows and columns of a grid that is at least as wide as high and leaves few cells empty."""
    if panels <= 3:
        return 1, max(panels, 1)
    least = math.ceil(math.sqrt(panels))
    columns = min((least, least + 1), key=lambda c: (math.ceil(panels / c) * c - panels, c))
    return math.ceil(panels / columns), columns


def _difference(one: Curve, other: Curve) -> str:
    """In words, what sets two curves apart that would be drawn as one line."""
    if one.run != other.run:
        return f"runs {one.run} and {other.run}"
    if one.layer != other.layer:
        return f"layers {one.layer or 'none'} and {other.layer or 'none'} of {one.run}"
    return f"two metrics of {one.run}"


class _Facets:
    """The values of each facet in one figure, with their names and their order."""

    def __init__(self, plot: LinePlot, resolved: Resolved) -> None:
        self.plot = plot
        self.runs = {run.name: run for run in reversed(resolved.lines)}  # of each run its first seed
        self.order = list(dict.fromkeys(run.name for run in resolved.lines))
        self.guests = {run.name for run in resolved.guests}
        # Beside panels of settings, runs of the same label (OP at two sizes) are one series with one colour.
        self.by_label = "setting" in plot.panels

    def value(self, curve: Curve, facet: Facet) -> str:
        """The value that a curve has for a facet: the name of its run, its layer, the index of its axis, ..."""
        match facet:
            case "run":
                return self._run_value(curve.run)
            case "layer":
                return curve.layer
            case "metric":
                return str(curve.axis)
            case "setting":
                return curve.setting

    def _run_value(self, run: str) -> str:
        return self.runs[run].label if self.by_label else run

    def _run_values(self) -> list[str]:
        return list(dict.fromkeys(self._run_value(name) for name in self.order))

    def rank(self, facet: Facet, value: str) -> tuple[float, float]:
        """Sort key of a value among all values of its facet."""
        match facet:
            case "run":
                return (self._run_values().index(value), 0)
            case "layer":
                return depth(value)
            case "metric":
                return (int(value), 0)
            case "setting":
                return (list(dict.fromkeys(self.runs[name].setting for name in self.order)).index(value), 0)

    def label(self, facet: Facet, value: str) -> str:
        """What a title or a legend calls a value of a facet."""
        match facet:
            case "run":
                return value if self.by_label else self.runs[value].label
            case "layer":
                return layer_label(value)
            case "metric":
                return common_label([axis_label(axis) for axis in self.plot.y])[1][int(value)]
            case "setting":
                return value

    def series(self, curves: Sequence[Curve]) -> list[Series]:
        """Every series that is drawn, in order. Where a run is absent, the others keep their colours."""
        facet = self.plot.series
        drawn = sorted({self.value(curve, facet) for curve in curves}, key=lambda value: self.rank(facet, value))
        if facet == "layer":
            blocks = max((int(layer) for layer in drawn if layer.isdigit()), default=1)
            of_block = sweep_styles(blocks)
            unembedding = LineStyle(UNEMBED_COLOUR, (0, (4, 1.6)))
            styles = {layer: of_block[int(layer) - 1] if layer.isdigit() else unembedding for layer in drawn}
            return [Series(layer, layer_label(layer), styles[layer]) for layer in drawn]
        if facet == "run":
            return self._run_series(drawn)
        styled = dict(zip(drawn, series_styles(drawn), strict=True))
        return [Series(value, self.label(facet, value), styled[value]) for value in drawn]

    def _run_series(self, drawn: Sequence[str]) -> list[Series]:
        """The series of runs. Guests have styles of their own, so that the figure's runs keep theirs."""
        every = self._run_values()
        members = {value: tuple(name for name in self.order if self._run_value(name) == value) for value in every}
        guests = [value for value in every if self.guests.issuperset(members[value])]
        own = [value for value in every if value not in guests]
        first = {value: training for value in own if (training := self.runs[members[value][0]].training) is not None}
        if self.plot.sweep:
            styles = sweep_styles(len(own))
        else:
            models = [first[value].model.model_dump_json() for value in own]
            styles = series_styles(models, [block_name(first[value].model) for value in own])
        styled = dict(zip(own, styles, strict=True)) | dict(zip(guests, guest_styles(len(guests)), strict=True))
        return [Series(value, self.label("run", value), styled[value], members[value]) for value in drawn]
