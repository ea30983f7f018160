"""Ways to quantise models of different kurtosis: a figure, and a table with bits and FLOPs (`MethodsPlot`)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from reproduce.claims.quantity import read
from reproduce.claims.ruling import NotMeasured
from reproduce.plots.badges import badges
from reproduce.plots.captions import caption, missing_notes, words
from reproduce.plots.quantised import clipped, multiples, spaced
from reproduce.plots.sheet import Words, sheet
from reproduce.plots.theme import QUIET, series_styles
from reproduce.quantise.rows import ROWS, Family
from reproduce.specs.schema import MethodsPlot, Quantity

if TYPE_CHECKING:
    from reproduce.claims import Verdict
    from reproduce.specs.runs import Resolved
    from reproduce.store.frame import Loaded

TITLES: dict[Family, str] = {
    "published": "calibration sets, W8A8 at every tensor",
    "causes": "linear layers, W8A8: which choice loses",
    "int8": "methods against outliers, W8A8",
    "int4": "methods at W4A4",
    "weights": "weights alone",
    "keys": "keys of attention",
}
_MARKS = "os^vDP*X<>hp"
_PANEL_WIDTH, _PANEL_HEIGHT, _LEGEND_LINE = 3.9, 2.5, 0.155


@dataclass(frozen=True)
class Cell:
    """One model, quantised in one way."""

    run: str
    label: str
    kurtosis: float
    row: str
    ppl: float | None
    """None where the method does not apply."""
    float_ppl: float
    weight_bits: float | None
    flops: float | None
    """FLOPs that the method adds for each token."""
    refused: str
    """Why the method does not apply; empty where it does."""

    @property
    def ratio(self) -> float | None:
        """Perplexity as a multiple of that in full precision."""
        return None if self.ppl is None else self.ppl / self.float_ppl


def cells(resolved: Resolved, loaded: Loaded) -> list[Cell]:
    """A cell for each run that has a trace and each row of the plot, runs in the order of the figure."""
    plot = resolved.experiment.plot
    assert isinstance(plot, MethodsPlot)
    found = []
    for run in dict.fromkeys(run.name for run in resolved.runs):
        ours = {key: fact for key, fact in loaded.facts.items() if key[0] == run}
        if not ours:
            continue
        fact = next(iter(ours.values()))
        said: dict[str, Any] = fact.provenance.get("quantised", {}).get("rows", {})

        def value(metric: str, run: str = run, ours: Any = ours, **where: Any) -> float | None:
            quantity = Quantity.model_validate({"metric": metric, "run": run, "over": "final", **where})
            try:
                return float(read(quantity, loaded.frame, ours)["value"].item())
            except NotMeasured:
                return None

        kurtosis, float_ppl = value("kurtosis", layer="mean"), value("eval_ppl")
        if kurtosis is None or float_ppl is None:
            continue
        for row in plot.rows:
            ppl, bits, flops = (value(f"{row}_{what}") for what in ("ppl", "weight_bits", "flops"))
            refused = said.get(row, {}).get("refused", "")
            found.append(Cell(run, fact.label, kurtosis, row, ppl, float_ppl, bits, flops, refused))
    return found


# ---------------------------------------------------------------------------------------------------
# The figure


def draw_methods(found: Sequence[Cell], around: Words) -> Figure:
    """A panel for each family of rows: perplexity over that in full precision, against kurtosis; call in `theme()`."""
    families = [family for family in TITLES if _rows_of(family, found)]
    runs = list(dict.fromkeys(cell.run for cell in found))
    columns = min(2, max(1, len(families)))
    lines = max(1, math.ceil(len(families) / columns))
    most = max((len(_rows_of(family, found)) for family in families), default=1)
    height = _PANEL_HEIGHT + _LEGEND_LINE * math.ceil(most / 2)
    figure, body = sheet(around, _PANEL_WIDTH * columns, height * lines + 0.35)
    colours = dict(zip(runs, (style.colour for style in series_styles(runs)), strict=True))
    axes = body.subplots(lines, columns, squeeze=False).flatten()
    for ax, family in zip(axes, families, strict=False):
        _draw(ax, [cell for cell in found if ROWS[cell.row].family == family], colours)
        ax.set_title(TITLES[family], fontsize=8)
    for ax in axes[len(families) :]:
        ax.set_axis_off()
    labels = {cell.run: cell.label for cell in found}
    handles = [Line2D([], [], color=colours[run], marker="o", linestyle="", label=labels[run]) for run in runs]
    body.legend(handles=handles, loc="outside lower center", ncols=min(4, len(runs)) or 1, fontsize=7, frameon=False)
    return figure


def _rows_of(family: Family, found: Sequence[Cell]) -> list[str]:
    """The rows of a family that some model has a number for."""
    return list(dict.fromkeys(c.row for c in found if ROWS[c.row].family == family and c.ratio is not None))


def _draw(ax: Axes, found: Sequence[Cell], colours: dict[str, str]) -> None:
    rows = list(dict.fromkeys(cell.row for cell in found if cell.ratio is not None))
    for row, mark in zip(rows, _MARKS * (1 + len(rows) // len(_MARKS)), strict=False):
        points = sorted(
            (cell.kurtosis, clipped(cell.ratio), cell.run)
            for cell in found
            if cell.row == row and cell.ratio is not None
        )
        ax.plot([x for x, _, _ in points], [y for _, y, _ in points], "-", color=QUIET, linewidth=0.4, zorder=1)
        for x, y, run in points:
            ax.plot([x], [y], mark, color=colours[run], ms=4.5, zorder=2)
    ax.axhline(1.0, color=QUIET, linewidth=0.8)
    ax.set_xscale("log")
    kurtoses = [cell.kurtosis for cell in found]
    low, high = min(kurtoses) / 1.25, max(kurtoses) * 1.25
    ax.set_xlim(low, high)
    ticks = [tick for tick in (1, 1.5, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500, 1000) if low <= tick <= high]
    ax.xaxis.set_major_locator(FixedLocator(spaced(ticks, high / low)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    multiples(ax, "y", [cell.ratio for cell in found if cell.ratio is not None])
    ax.set_xlabel("mean kurtosis of the blocks, Eq (1)")
    ax.set_ylabel("perplexity / full precision")
    marks = [
        Line2D([], [], color="black", marker=mark, linestyle="", ms=4, label=ROWS[row].label)
        for row, mark in zip(rows, _MARKS * (1 + len(rows) // len(_MARKS)), strict=False)
    ]
    ax.legend(handles=marks, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=6, frameon=False)


def methods_words(resolved: Resolved, loaded: Loaded, verdicts: Sequence[Verdict], found: Sequence[Cell]) -> Words:
    """What stands around the picture; methods that do not apply are noted with their reasons."""
    refused: dict[str, tuple[list[str], list[str]]] = {}
    for cell in found:
        if cell.refused:
            rows, models = refused.setdefault(cell.refused, ([], []))
            rows += [ROWS[cell.row].label] if ROWS[cell.row].label not in rows else []
            models += [cell.label] if cell.label not in models else []
    reasons = [
        f"of {', '.join(models)}: {', '.join(rows)} do not apply, {why}" for why, (rows, models) in refused.items()
    ]
    return words(
        resolved.experiment,
        verdicts,
        badges(resolved.scale, loaded.facts.values()),
        f"{caption(resolved, loaded)}. A colour is a model and a mark a method; lines join a method's points.",
        [*missing_notes(loaded.missing), *reasons, *_beyond(found)],
    )


def _beyond(found: Sequence[Cell]) -> list[str]:
    """The points that stand at the border of their panel, with what they would be."""
    out = [cell for cell in found if cell.ratio is not None and clipped(cell.ratio) != cell.ratio]
    return [f"{ROWS[cell.row].label}, of {cell.label} lies beyond the axis: {cell.ratio:.2g} times" for cell in out]


# ---------------------------------------------------------------------------------------------------
# The table

HEADS = ("Model", "Kurtosis", "Method", "Bits a weight", "Extra FLOPs a token", "Perplexity", "x full precision")


def methods_markdown(found: Sequence[Cell], around: Words) -> str:
    """The cells as a table for GitHub; the first row of each model is the model in full precision."""
    lines = ["| " + " | ".join(HEADS) + " |", "| :-- | --: | :-- | --: | --: | --: | --: |"]
    for number, cell in enumerate(found):
        if number == 0 or found[number - 1].run != cell.run:
            whole = (cell.label, f"{cell.kurtosis:.1f}", "full precision", "32", "0", f"{cell.float_ppl:,.2f}", "1")
            lines.append("| " + " | ".join(whole) + " |")
        lines.append("| " + " | ".join(_texts(cell)) + " |")
    return "\n\n".join([f"## {around.title}", "\n".join(lines), around.caption]) + "\n"


def _texts(cell: Cell) -> list[str]:
    first = [cell.label, f"{cell.kurtosis:.1f}", ROWS[cell.row].label]
    if cell.ppl is None or cell.ratio is None:
        return [*first, "–", "–", "does not apply" if cell.refused else "no trace yet", "–"]
    bits = "–" if cell.weight_bits is None else f"{cell.weight_bits:.3g}"
    flops = "–" if cell.flops is None else f"{round(cell.flops):,}"
    return [*first, bits, flops, f"{cell.ppl:,.2f}" if cell.ppl < 1e6 else f"{cell.ppl:.2g}", f"{cell.ratio:.4g}"]


def methods_csv(found: Sequence[Cell]) -> str:
    """The cells as CSV, unrounded. A method that does not apply has its reason and no numbers."""
    out = io.StringIO()
    names = ("run", "label", "kurtosis", "row", "method", "family", "weight_bits", "flops_per_token", "float_ppl",
             "ppl", "ratio", "refused")  # fmt: skip
    writer = csv.DictWriter(out, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    for cell in found:
        row = ROWS[cell.row]
        writer.writerow(
            dict(zip(names, (cell.run, cell.label, cell.kurtosis, cell.row, row.label, row.family, cell.weight_bits,
                             cell.flops, cell.float_ppl, cell.ppl, cell.ratio, cell.refused), strict=True))
        )  # fmt: skip
    return out.getvalue()
