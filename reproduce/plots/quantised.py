"""What each way to quantise costs (`ofe quantise --plot`): perplexity by row, and against kurtosis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from reproduce.plots.export import image_bytes, settle
from reproduce.plots.theme import QUIET, series_styles, theme

_ROW_HEIGHT = 0.22
"""Height of a row in inches."""
_LEAST, _MOST = 0.9, 1000.0
"""Ratios beyond which points are drawn at the border."""
_GAP = 1 / 16
"""Least distance between two ticks, as a share of their axis."""
_TICKS = (0.9, 1.0, 1.1, 1.2, 1.5, 2, 3, 5, 10, 30, 100, 300, 1000)


def draw_quantisations(readings: Sequence[dict[str, Any]], kind: str) -> bytes:
    """The content of an image file of the format `kind`, from readings as `ofe quantise --json` gives them.

    Left, the perplexity of each row as a multiple of that in full precision, a mark for each model. With several
    models, right, the same multiple per tensor against the mean kurtosis of the model's blocks.
    """
    labels = list(dict.fromkeys(label for reading in readings for label in _ratios(reading)))
    with theme():
        means = [reading["kurtosis"]["mean"] for reading in readings]
        several = len(readings) > 1 and all(mean is not None and math.isfinite(mean) for mean in means)
        width = 10.4 if several else 7.0
        figure = Figure(figsize=(width, 1.3 + _ROW_HEIGHT * max(len(labels), 5)), layout="constrained")
        axes = figure.subplots(1, 2, squeeze=False, width_ratios=(3, 2))[0] if several else [figure.add_subplot()]
        colours = [style.colour for style in series_styles(list(range(len(readings))))]
        _by_row(axes[0], readings, labels, colours)
        if several:
            _against_kurtosis(axes[1], readings, colours)
        settle(figure)
        return image_bytes(figure, kind)


def _ratios(reading: dict[str, Any]) -> dict[str, float]:
    """Label of a row -> perplexity divided by that in full precision, where that is a number."""
    found = {
        f"published protocol, W{one['bits']}A{one['bits']}": one["ppl"] / reading["ppl"] for one in reading["published"]
    }
    found |= {row["label"]: row["ratio"] for row in reading["rows"] if row["ratio"] is not None}
    return {label: ratio for label, ratio in found.items() if not math.isnan(ratio)}


def clipped(ratio: float) -> float:
    """The ratio as it is drawn: one beyond the axis stands at its border."""
    return min(max(ratio, _LEAST), _MOST)


def _by_row(ax: Axes, readings: Sequence[dict[str, Any]], labels: Sequence[str], colours: Sequence[str]) -> None:
    for reading, colour in zip(readings, colours, strict=True):
        ratios = _ratios(reading)
        shown = [label for label in labels if label in ratios]
        places = [labels.index(label) for label in shown]
        ax.plot([clipped(ratios[label]) for label in shown], places, "o", color=colour, label=reading["model"], ms=4)
    ax.axvline(1.0, color=QUIET, linewidth=0.8)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    multiples(ax, "x", [ratio for reading in readings for ratio in _ratios(reading).values()])
    ax.set_xlabel("perplexity / perplexity in full precision")
    ax.grid(axis="x", linewidth=0.4)
    ax.legend(loc="lower right", fontsize=7)


def _against_kurtosis(ax: Axes, readings: Sequence[dict[str, Any]], colours: Sequence[str]) -> None:
    for reading, colour in zip(readings, colours, strict=True):
        mean = reading["kurtosis"]["mean"]
        for row in reading["rows"]:
            if row["row"] in ("tensor", "token") and row["ratio"] is not None:
                mark = "o" if row["row"] == "tensor" else "^"
                ax.plot([mean], [clipped(row["ratio"])], mark, color=colour, ms=5)
    means = [reading["kurtosis"]["mean"] for reading in readings]
    ax.set_xscale("log")
    ax.set_xlim(0.8, max(10.0, 1.5 * max(means)))
    shown = [row["ratio"] for reading in readings for row in reading["rows"] if row["row"] in ("tensor", "token")]
    multiples(ax, "y", [ratio for ratio in shown if ratio is not None and not math.isnan(ratio)])
    ax.set_ylabel("perplexity / perplexity in full precision")
    ax.axhline(1.0, color=QUIET, linewidth=0.8)
    ax.set_xlabel("mean kurtosis of the blocks, Eq (1)")
    ax.set_title("circles: per tensor; triangles: per token", fontsize=8)


def multiples(ax: Axes, which: str, ratios: Sequence[float]) -> None:
    """A logarithmic axis with plain numbers, from below 1 to beyond the largest ratio."""
    top = max(1.2, *map(clipped, ratios)) if ratios else 1.2
    getattr(ax, f"set_{which}scale")("log")
    axis = getattr(ax, f"{which}axis")
    axis.set_major_locator(FixedLocator(spaced([tick for tick in _TICKS if tick <= 1.2 * top], top / _LEAST)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    getattr(ax, f"set_{which}lim")(_LEAST * 0.98, top * 1.08)


def spaced(ticks: Sequence[float], span: float) -> list[float]:
    """Those of the ascending `ticks` of a logarithmic axis that leave room for their labels; 1 stays if it is there.

    Args:
        span: the last number of the axis divided by the first.
    """
    kept = [tick for tick in ticks if tick == 1]
    for tick in ticks:
        if all(abs(math.log(tick / other)) >= _GAP * math.log(span) for other in kept):
            kept.append(tick)
    return sorted(kept)
