"""What the lines of a figure are called: the entries of the legend, its place, and the colour bar of many layers."""

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
"""Width in inches of the short line before a name in the legend, with the space after it."""
_MOST_NAMED_LAYERS = 8
"""Most layers that are named one by one; more of them get a colour bar."""
_CELLS = {1: (4.9, 3.2), 4: (3.3, 2.35), 9: (2.5, 1.85)}
"""Width and height in inches of a panel in figures of up to 1, 4 and 9 panels; those of more have `_SMALL_CELL`."""
_SMALL_CELL = (1.75, 1.4)


@dataclass(frozen=True)
class Legend:
    """The names of a figure's lines. `handles` and `labels` go together one by one."""

    handles: list[Line2D]
    labels: list[str]
    bar: bool
    """Whether a colour bar tells the blocks apart, so that they have no names here."""


def legend_of(plot: LinePlot, grid: Arrangement, loaded: Loaded) -> Legend:
    """A name for each series, with what became of its runs. Where panels are titled by series there are no names."""
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
    """Sizes in inches, and the place of the legend."""

    cell: tuple[float, float]
    """Width and height of one panel."""
    width: float
    """Width of all panels together with the legend."""
    height: float
    place: Literal["none", "beside", "cell", "below"]
    columns: int = 1
    """Columns of the legend."""


def lay_out(plot: LinePlot, grid: Arrangement, legend: Legend, shrink: float = 1.0) -> Layout:
    """Choose a place for the legend: beside a single panel, else in an empty cell of the grid, else below the grid.

    Args:
        shrink: size of a panel beside its usual one.
    """
    panels = len(grid.panels)
    usual = next((size for most, size in _CELLS.items() if panels <= most), _SMALL_CELL)
    cell = (usual[0] * shrink, usual[1] * shrink)
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
    rows = -(-len(legend.labels) // columns)  # rounded up
    return Layout(cell, width, height + rows * pitch(_SIZE) * 1.1 + 0.1, "below", columns)


def draw_legend(body: SubFigure, legend: Legend, layout: Layout, spare: Axes | None) -> None:
    """Draw the legend where `layout` says.

    Args:
        spare: the empty cell of the grid, where the legend has its place in one.
    """
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
    """Draw a bar with one colour for each block, the first block at the bottom."""
    blocks = max(int(series.key) for series in grid.series if series.key.isdigit())
    norm = BoundaryNorm(np.arange(0.5, blocks + 1), blocks)  # block n has the colours from n - 0.5 to n + 0.5
    bar = body.colorbar(ScalarMappable(norm, ramp(blocks)), ax=list(axes), aspect=35, pad=0.01, fraction=0.04)
    step = max(3, round(blocks / 6))
    bar.set_ticks([1, *range(step, blocks + 1, step)])
    bar.minorticks_off()
    bar.set_label("layer")
