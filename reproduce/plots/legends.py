"""What the lines of a figure are called: legend entries, where the legend stands, and the colour bar of many layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D

from reproduce.plots.captions import run_suffix
from reproduce.plots.panels import Arrangement
from reproduce.plots.sheet import pitch
from reproduce.plots.theme import ramp, text_width
from reproduce.specs.schema import LinePlot

if TYPE_CHECKING:
    from reproduce.store.frame import Loaded

_SIZE = 7.5
_HANDLE = 0.42
"""Width in inches of a legend's line and the space after it."""
_MOST_NAMED_LAYERS = 8
"""More layers than this get a colour bar instead of a name each."""
_CELLS = {1: (4.9, 3.2), 4: (3.3, 2.35), 9: (2.5, 1.85)}
"""Width and height in inches of a panel, up to that many panels; beyond them `_SMALL_CELL`."""
_SMALL_CELL = (1.75, 1.4)


@dataclass(frozen=True)
class Legend:
    """The names of a figure's lines."""

    handles: list[Line2D]
    labels: list[str]
    bar: bool
    """Whether blocks are told by a colour bar instead."""


def legend_of(plot: LinePlot, grid: Arrangement, loaded: Loaded) -> Legend:
    """A name for each series, unless the panels' titles already give them, with what became of its runs."""
    blocks = [series for series in grid.series if series.key.isdigit()]
    bar = plot.series == "layer" and len(blocks) > _MOST_NAMED_LAYERS
    if plot.panels == [plot.series] or (len(grid.series) == 1 and plot.series != "run"):
        return Legend([], [], bar)
    handles, labels = [], []
    for series in grid.series:
        if bar and series in blocks:
            continue
        handles.append(Line2D([], [], color=series.style.colour, linestyle=series.style.dashes))
        drawn = tuple(run for run in series.runs if any(run == name for name, _ in loaded.facts))
        labels.append(series.label + run_suffix(drawn, loaded))
    return Legend(handles, labels, bar)


@dataclass(frozen=True)
class Layout:
    """Sizes in inches, and where the legend stands."""

    cell: tuple[float, float]
    width: float
    height: float
    place: Literal["none", "beside", "cell", "below"]
    columns: int = 1
    """Columns of the legend."""


def lay_out(plot: LinePlot, grid: Arrangement, legend: Legend) -> Layout:
    """The legend stands beside a single panel, in an empty cell of a grid, or below it, wherever it fits first."""
    panels = len(grid.panels)
    cell = next((size for most, size in _CELLS.items() if panels <= most), _SMALL_CELL)
    width = grid.columns * cell[0] + (0.6 if legend.bar else 0)
    height = grid.rows * cell[1]
    if not legend.labels:
        return Layout(cell, width, height, "none")
    longest = max(text_width(text, _SIZE) for text in legend.labels) + _HANDLE
    tall = len(legend.labels) * pitch(_SIZE) + 0.25
    if panels == 1 and longest < 3.2:
        return Layout(cell, width + longest + 0.2, max(height, tall), "beside")
    spare = len(plot.panels) == 1 and grid.rows * grid.columns > panels
    if spare and longest < cell[0] and tall < cell[1]:
        return Layout(cell, width, height, "cell")
    columns = max(1, min(len(legend.labels), int(width / (longest + 0.2))))
    rows = -(-len(legend.labels) // columns)
    return Layout(cell, width, height + rows * pitch(_SIZE) * 1.1 + 0.1, "below", columns)


def draw_legend(body: SubFigure, legend: Legend, layout: Layout, spare: Axes | None) -> None:
    """Put the legend where `layout` says; `spare` is the empty cell."""
    style: dict[str, Any] = {"handlelength": 2.4, "labelspacing": 0.35, "columnspacing": 1.4, "ncols": layout.columns}
    match layout.place:
        case "beside":
            body.legend(legend.handles, legend.labels, loc="outside right upper", **style)
        case "below":
            body.legend(legend.handles, legend.labels, loc="outside lower center", **style)
        case "cell":
            assert spare is not None
            spare.legend(legend.handles, legend.labels, loc="center", **style)


def colour_bar(body: SubFigure, grid: Arrangement, axes: Sequence[Axes]) -> None:
    """Layers by depth, first block at the bottom."""
    blocks = max(int(series.key) for series in grid.series if series.key.isdigit())
    norm = BoundaryNorm(np.arange(0.5, blocks + 1), blocks)
    bar = body.colorbar(ScalarMappable(norm, ramp(blocks)), ax=list(axes), aspect=35, pad=0.01, fraction=0.04)
    step = max(3, round(blocks / 6))
    bar.set_ticks([1, *range(step, blocks + 1, step)])
    bar.minorticks_off()
    bar.set_label("layer")
