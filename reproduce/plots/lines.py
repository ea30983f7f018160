"""Curves over training, in a grid of panels (`LinePlot`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from reproduce.plots.badges import badges
from reproduce.plots.captions import caption, missing_notes, run_suffix, words
from reproduce.plots.curves import Curve, build
from reproduce.plots.legends import Layout, colour_bar, draw_legend, lay_out, legend_of
from reproduce.plots.look import Look
from reproduce.plots.names import axis_label, common_label, layer_label
from reproduce.plots.panels import Arrangement, Panel, Series, arrange
from reproduce.plots.sheet import sheet
from reproduce.plots.theme import wrap
from reproduce.specs.load import cautions
from reproduce.specs.schema import Axis, LinePlot

if TYPE_CHECKING:
    from reproduce.claims import Verdict
    from reproduce.specs.runs import Resolved
    from reproduce.store.frame import Loaded

_MOST_RAW = 4
"""Most noisy lines in a panel whose raw values are drawn; those of more would hide one another."""
_MOST_OUTSIDE = 0.25
"""Largest share of a line's raw values beyond its axis with which they are drawn: of more, only bars can be seen."""
_SETTLED = 0.1
"""Share of the x axis after which losses have fallen so far that a linear axis tells runs apart."""
_PAD = 0.05
"""Space above and below the lines on an axis with limits of its own, as a share of what they span."""
_LOSSES = frozenset({"train_loss", "eval_loss", "eval_ppl"})


def draw_lines(resolved: Resolved, loaded: Loaded, verdicts: Sequence[Verdict], look: Look | None = None) -> Figure:
    """The figure of an experiment whose plot is a `LinePlot`; call inside `theme()`.

    Raises:
        SpecError: the plot's facets do not tell its curves apart, or the look does not fit the figure.
    """
    look = look or Look()
    plot = look.plot_of(resolved)
    built = build(plot, resolved, loaded, look.smooth)
    curves = _without_clouds(built.curves, plot)
    grid = arrange(plot, resolved, curves)
    legend = legend_of(plot, grid, loaded)
    layout = lay_out(plot, grid, legend, look.shrink)
    said = [f"{caption(resolved, loaded)}.", _how_drawn(plot, grid.panels)]
    said += cautions(resolved.experiment, resolved.scale)
    around = words(
        resolved.experiment,
        verdicts,
        badges(resolved.scale, loaded.facts.values(), resolved.guests),
        " ".join(filter(None, said)),
        [
            *missing_notes(loaded.missing),
            *built.notes,
            *_unnamed_divergence(plot, loaded),
            *_undrawn_layers(look, curves),
        ],
    )
    figure, body = sheet(around, layout.width, layout.height)
    axes, spare = _axes(body, plot, grid, layout)
    styles = {series.key: series for series in grid.series}
    for panel, ax in axes:
        _draw_panel(ax, panel, styles)
        ax.set_title(_panel_title(panel, loaded))
    for index in range(len(plot.y)):
        of_metric = [(panel, ax) for panel, ax in axes if panel.axis == index]
        _set_limits(of_metric, plot)
        if of_metric and plot.y[index].scale == "log":
            _label_decades(of_metric[0][1])
    for panel, ax in axes:
        _mark_divergence(ax, panel, styles)
    draw_legend(body, legend, layout, spare)
    if legend.bar:
        colour_bar(body, grid, [ax for _, ax in axes])
    return figure


# ---------------------------------------------------------------------------------------------------
# Axes


def _axes(
    body: SubFigure, plot: LinePlot, grid: Arrangement, layout: Layout
) -> tuple[list[tuple[Panel, Axes]], Axes | None]:
    """A pair of axes for each panel, and the empty cell for the legend where it has one.

    All panels of a metric share their y axis, so that layers can be compared. Ticks are labelled only at the outer
    panels.
    """
    cells = body.add_gridspec(grid.rows, grid.columns)
    taken = {(panel.row, panel.column): panel for panel in grid.panels}
    ends = {row for row, column in taken if (row + 1, column) not in taken}
    first: dict[int, Axes] = {}
    top: Axes | None = None
    axes = []
    for panel in grid.panels:
        ax = body.add_subplot(cells[panel.row, panel.column], sharex=top, sharey=first.get(panel.axis))
        top = top or ax
        if panel.axis not in first:
            first[panel.axis] = ax
            _scale_y(ax, plot.y[panel.axis])
        left = taken.get((panel.row, panel.column - 1))
        labelled = left is None or left.axis != panel.axis
        ax.tick_params(which="both", labelleft=labelled)
        if labelled:
            ax.set_ylabel("\n".join(wrap(_y_label(plot, panel), layout.cell[1] - 0.35, 8)))
        ax.tick_params(labelbottom=panel.row in ends)
        if (panel.row + 1, panel.column) not in taken:
            ax.set_xlabel(_x_label(plot))
        axes.append((panel, ax))
    _scale_x(axes, plot, 6 if layout.cell[0] > 3 else 5 if layout.cell[0] > 2 else 3)
    spare = None
    if layout.place == "cell":
        spare = body.add_subplot(cells[grid.rows - 1, grid.columns - 1])
        spare.set_axis_off()
    return axes, spare


def _scale_y(ax: Axes, axis: Axis) -> None:
    """Make a y axis linear or logarithmic, with few and round ticks."""
    if axis.scale == "log":
        ax.set_yscale("log", nonpositive="mask")
    else:
        ax.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
        ax.yaxis.set_major_formatter(ScalarFormatter(useMathText=True))
        ax.ticklabel_format(axis="y", scilimits=(-2, 5))


def _label_decades(ax: Axes) -> None:
    """Label the powers of ten of a log axis; where it spans fewer than two decades, label 1, 2, 5 and 10."""
    low, high = ax.get_ylim()
    if high / low >= 100:
        ax.yaxis.set_major_locator(LogLocator(numticks=6))
    else:
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _scale_x(axes: Sequence[tuple[Panel, Axes]], plot: LinePlot, ticks: int) -> None:
    """Make all x axes linear or logarithmic, a linear one with at most `ticks` intervals."""
    for _, ax in axes:
        if plot.x.scale == "log":
            # Symmetric log keeps the initialisation, step 0, on the axis: linear below 1, log above.
            ax.set_xscale("symlog", linthresh=1, linscale=0.4)
        else:
            ax.xaxis.set_major_locator(MaxNLocator(nbins=ticks, steps=[1, 2, 2.5, 5, 10]))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _short(value: float) -> str:
    """A tick's label: `500`, `2k`."""
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"


def _x_label(plot: LinePlot) -> str:
    name = plot.x.label or {"step": "training step"}.get(plot.x.metric, plot.x.metric)
    return f"{name} (log)" if plot.x.scale == "log" else name


def _y_label(plot: LinePlot, panel: Panel) -> str:
    return common_label([axis_label(plot.y[curve.axis]) for _, curve in panel.curves])[0]


def _panel_title(panel: Panel, loaded: Loaded) -> str:
    """The title of a panel, with a second line on seeds and divergence where there is something to say."""
    return panel.title + run_suffix(panel.runs, loaded).replace(" (", "\n(", 1)


# ---------------------------------------------------------------------------------------------------
# Lines


def _draw_panel(ax: Axes, panel: Panel, styles: dict[str, Series]) -> None:
    """Draw all curves of a panel: diverged seeds, raw values, the band over seeds, and the line itself."""
    for key, curve in panel.curves:
        colour, dashes = styles[key].style.colour, styles[key].style.dashes
        for stray in curve.strays:
            # Beside finished seeds a diverged one is a thin line of its own; their mean does not include it.
            width = 0.7 if curve.seeds else 1.3
            ax.plot(stray.x, stray.y, color=colour, linestyle=dashes, linewidth=width, label="_stray")
        if curve.raw is not None and len(panel.curves) <= _MOST_RAW:
            ax.plot(*curve.raw, color=colour, alpha=0.2, linewidth=0.5, zorder=1.5, label="_raw")
        if curve.seeds > 1:
            ax.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0, zorder=1.8)
        if curve.seeds:
            lone = "o" if np.isfinite(curve.mean).sum() == 1 else ""  # a line of one point would not show
            ax.plot(curve.x, curve.mean, color=colour, linestyle=dashes, marker=lone, markersize=3, label=key)


def _mark_divergence(ax: Axes, panel: Panel, styles: dict[str, Series]) -> None:
    """Draw a cross where a diverged line stops, or at the edge of the axis where the value lies beyond it."""
    low, high = ax.get_ylim()
    for key, curve in panel.curves:
        for stray in curve.strays:
            ax.plot(
                stray.x[-1:],
                np.clip(stray.y[-1:], low, high),
                marker="x",
                markersize=6,
                markeredgewidth=1.6,
                color=styles[key].style.colour,
                linestyle="none",
                clip_on=False,
                zorder=5,
                label="_diverged",
            )


def _set_limits(panels: Sequence[tuple[Panel, Axes]], plot: LinePlot) -> None:
    """Set the limits of a y axis where it has `_own_limits`."""
    limits = _own_limits([curve for panel, _ in panels for _, curve in panel.curves], plot)
    if limits is not None:
        panels[0][1].set_ylim(limits.low, limits.high)


@dataclass(frozen=True)
class _Limits:
    """What a y axis spans."""

    low: float
    high: float
    start: float
    """The x from which the lines on the axis were looked at."""


def _own_limits(curves: Sequence[Curve], plot: LinePlot) -> _Limits | None:
    """What a linear axis of smoothed curves spans: the lines, and not the noise behind them. None for other axes.

    The axis of a loss leaves out the first steps as well, which would press all later differences into a thin band.
    """
    if not any(_has_own_limits(plot.y[curve.axis], curve) for curve in curves):
        return None
    finished = [(curve.x, curve.low, curve.high) for curve in curves if curve.seeds]
    lines = finished or [(stray.x, stray.y, stray.y) for curve in curves for stray in curve.strays]
    loss = any(plot.y[curve.axis].metric in _LOSSES for curve in curves)
    start = _SETTLED * max(x[-1] for x, _, _ in lines) if loss else 0.0
    low, high = np.inf, -np.inf
    for x, least, most in lines:
        settled = x >= start
        low = min(low, np.nanmin(least[settled], initial=np.inf))
        high = max(high, np.nanmax(most[settled], initial=-np.inf))
    if not low < high:
        return None
    pad = _PAD * (high - low)
    return _Limits(float(low - pad), float(high + pad), start)


def _has_own_limits(axis: Axis, curve: Curve) -> bool:
    """Whether `_own_limits` sets the y limits of the axis, rather than matplotlib."""
    return axis.scale == "linear" and (curve.window > 1 or axis.metric in _LOSSES)


def _how_drawn(plot: LinePlot, panels: Sequence[Panel]) -> str:
    """Sentences for the caption on how lines, bands and axes came about, where a reader could not know it."""
    said = []
    curves = [curve for panel in panels for _, curve in panel.curves]
    layers = {curve.layer for curve in curves} - {""}
    if len(layers) == 1 and "layer" not in (*plot.panels, plot.series):
        said.append(f"{layer_label(layers.pop()).capitalize()}.")
    if any(curve.seeds > 1 for curve in curves):
        said.append("Line: mean over seeds; band: min to max.")
    windows = sorted({curve.window for curve in curves} - {1})
    if windows:
        length = f"{windows[0]:,}" if len(windows) == 1 else f"{windows[0]:,} to {windows[-1]:,}"
        faint = [curve for panel in panels if len(panel.curves) <= _MOST_RAW for _, curve in panel.curves if curve.raw]
        raw = "; faint: as measured" if faint else ""
        raw += ", beyond the axis in places" if any(_leaves(curve, curves, plot) for curve in faint) else ""
        said.append(f"Running mean over {length} steps{raw}.")
    if any(_has_own_limits(plot.y[curve.axis], curve) and plot.y[curve.axis].metric in _LOSSES for curve in curves):
        said.append(f"The loss axis spans the lines after the first {_SETTLED:.0%} of the run.")
    return " ".join(said)


def _leaves(curve: Curve, curves: Sequence[Curve], plot: LinePlot) -> bool:
    """Whether raw values of a curve lie beyond its axis."""
    return _outside(curve, curves, plot) > 0


def _outside(curve: Curve, curves: Sequence[Curve], plot: LinePlot) -> float:
    """The share of a curve's raw values beyond its axis, which spans the running means of the `curves` on it."""
    limits = _own_limits([one for one in curves if one.axis == curve.axis], plot)
    if limits is None or curve.raw is None:
        return 0.0
    x, y = curve.raw
    shown = y[x >= limits.start]
    return float(np.mean((shown < limits.low) | (shown > limits.high))) if shown.size else 0.0


def _without_clouds(curves: Sequence[Curve], plot: LinePlot) -> list[Curve]:
    """The curves without raw values that vary by more than their axis spans, such as losses of single sequences."""
    return [replace(curve, raw=None) if _outside(curve, curves, plot) > _MOST_OUTSIDE else curve for curve in curves]


def _undrawn_layers(look: Look, curves: Sequence[Curve]) -> list[str]:
    """A note for a picture whose layers the user chose: claims read other layers too."""
    return (
        ["verdicts read all layers that their claims name, drawn or not"]
        if look.layers and any(one.layer for one in curves)
        else []
    )


def _unnamed_divergence(plot: LinePlot, loaded: Loaded) -> list[str]:
    """Notes on diverged runs, for a figure whose legend and panels name no runs."""
    if plot.series == "run" or "run" in plot.panels:
        return []
    runs = dict.fromkeys(run for run, _ in loaded.facts)
    labels = {run: fact.label for (run, _), fact in loaded.facts.items()}
    return [f"{labels[run]}{suffix}" for run in runs if "diverged" in (suffix := run_suffix([run], loaded))]
