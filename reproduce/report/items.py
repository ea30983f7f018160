"""What `ofe report` shows of each figure: its picture, verdicts, curves, hyperparameters and cost, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.claims import judge
from reproduce.claims.verdict import evidence
from reproduce.plots.curves import build
from reproduce.plots.names import axis_label, layer_label
from reproduce.plots.panels import arrange
from reproduce.plots.table import tabulate
from reproduce.report.cost import machines, measured_cost
from reproduce.report.pictures import data_address
from reproduce.report.verdicts import decided_by, published, short_tally, tally
from reproduce.specs.load import load_setting
from reproduce.specs.provenance import hyperparameters
from reproduce.specs.runs import Resolved
from reproduce.specs.schema import LinePlot, TablePlot
from reproduce.store.frame import Loaded, load
from reproduce.units import count, duration

if TYPE_CHECKING:
    from reproduce.plots.curves import Curve
    from reproduce.store.runs import Store

POINTS = 72
"""Most points of a curve on the page; a screen's width shows no more of the shape of a few thousand steps."""
DIGITS = 4
"""Significant digits of the values on the page."""

Verdicts = list[dict[str, Any]]
"""Verdicts as `Verdict.to_json` gives them."""
Drawn = Callable[[Resolved], tuple[Path, Verdicts] | None]
"""Gives the path of the picture of a figure and the verdicts of when it was drawn, or None if it cannot be drawn."""


@dataclass(frozen=True)
class Item:
    """One figure or table at one scale."""

    about: dict[str, Any]
    """What the template writes; every text in it is escaped there."""
    charts: list[dict[str, Any]]
    """One entry for each y axis: its label, scale, series and points."""
    recipes: dict[str, list[dict[str, str]]]
    """The hyperparameters of each of its settings at its scale, which the page states once for all figures."""


def items(resolveds: Sequence[Resolved], store: Store, drawn: Drawn) -> Iterator[Item]:
    """What the page shows of each figure, in the order given.

    Raises:
        OfeError: a trace is damaged.
    """
    for resolved in resolveds:
        loaded = load(resolved, store, reference=True)
        yield item(resolved, loaded, *(drawn(resolved) or (None, None)))


def item(resolved: Resolved, loaded: Loaded, picture: Path | None, verdicts: Verdicts | None = None) -> Item:
    """What the page shows of one figure.

    Args:
        verdicts: those on its claims, which are judged if None.
    """
    experiment, scale = resolved.experiment, resolved.scale
    if verdicts is None:
        verdicts = [verdict.to_json() for verdict in judge(experiment, loaded, scale)]
    rows = hyperparameters(experiment, scale)
    sources = list(dict.fromkeys(fact.source for fact in loaded.facts.values() if fact.substitute))
    about = {
        "anchor": f"{experiment.id}-{scale}",
        "id": experiment.id,
        "title": experiment.title,
        "paper": ", ".join(experiment.paper_names),
        "scale": scale if resolved.runs else "",
        "settings": [load_setting(name).title for name in experiment.settings],
        "tally": tally(verdicts) if verdicts else "",
        "reproduced": short_tally(verdicts),
        "state": _state(verdicts),
        "verdicts": sorted({one["verdict"] for one in verdicts}) or ["no claims"],
        "data": f"substitute: {', '.join(sources)}" if sources else "the paper's" if loaded.facts else "",
        "cost": _cost(resolved, loaded),
        "machines": machines(fact.provenance for fact in loaded.facts.values()),
        "claims": [_claim(one) for one in verdicts],
        "image": data_address(picture) if picture else "",
        "table": _table(resolved, loaded),
        "published": _published(resolved),
        "notes": experiment.notes,
        "finding": experiment.findings.get(scale, ""),
        "command": f"ofe reproduce {experiment.id}" + (f" --scale {scale}" if resolved.runs else ""),
        "hyperparameters": [_hyperparameter(row) for row in rows if row.run is not None],
        "recipes": {_recipe(row.setting, scale): load_setting(row.setting).title for row in rows},
        "provenance": list(experiment.provenance.items()),
        "runs": [_run(fact) for fact in loaded.facts.values()],
        "missing": [run.slug for run in loaded.missing],
    }
    recipes: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        if row.run is None:
            recipes.setdefault(_recipe(row.setting, scale), []).append(_hyperparameter(row))
    return Item(about, _charts(resolved, loaded), recipes)


def _recipe(setting: str, scale: str) -> str:
    """The place on the page where the hyperparameters of a setting at a scale stand."""
    return f"{setting}-at-{scale}"


def _state(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """The weakest verdict among those that were measured."""
    there = {one["verdict"] for one in verdicts}
    order = ("not reproduced", "direction only", "reproduced", "not measured")
    return next((name for name in order if name in there), "no claims")


def _claim(verdict: Mapping[str, Any]) -> dict[str, str]:
    return {
        "id": verdict["claim"],
        "says": verdict["says"],
        "asked": verdict["bound"],
        "measured": evidence(verdict),
        "published": published(verdict["published"]),
        "verdict": verdict["verdict"],
        "decided": " and ".join(decided_by(verdict)),
    }


def _table(resolved: Resolved, loaded: Loaded) -> dict[str, Any] | None:
    """The cells of a table, with the paper's own beside ours; None for figures."""
    if not isinstance(resolved.experiment.plot, TablePlot) or not loaded.facts:
        return None
    table = tabulate(resolved, loaded)
    return {"heads": table.heads, "rows": table.rows}


def _published(resolved: Resolved) -> list[tuple[str, str]]:
    """What else the paper prints, by name. The cells of a table stand in `_table`."""
    plot = resolved.experiment.plot
    in_table = {run.name for run in resolved.runs} if isinstance(plot, TablePlot) else set()
    entries = [(name, value) for name, value in resolved.experiment.published.items() if name not in in_table]
    return [(_worded(name), published(value)) for name, value in entries]


def _worded(name: str) -> str:
    """The name of a published number as words: `kurtosis_peak_lt` is `kurtosis peak below`."""
    for suffix, word in (("_gt", " above"), ("_lt", " below")):
        if name.endswith(suffix):
            name = name.removesuffix(suffix) + word
    return name.replace("_", " ")


def _hyperparameter(row: Any) -> dict[str, str]:
    texts = {"paper": row.value, "here": row.scale_value}
    shown = {name: "" if value is None else str(value) for name, value in texts.items()}
    return {"of": row.run or "", "name": row.path, "source": row.source or "", "note": row.note, **shown}


def _run(fact: Any) -> dict[str, str]:
    provenance = fact.provenance
    packages = provenance.get("packages") or {}
    return {
        "label": f"{fact.label}, seed {fact.seed}",
        "key": fact.key,
        "from": "reference trace" if fact.reference else "trained here",
        "steps": f"{fact.steps:,}" + (f", diverged at {fact.failed_step:,}" if fact.failed else ""),
        "device": str(provenance.get("device") or ""),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
        "time": duration(provenance["seconds"]) if provenance.get("seconds") else "",
    }


def _cost(resolved: Resolved, loaded: Loaded) -> str:
    """How many runs the figure has, and what those with a trace took to train."""
    if not resolved.runs:
        return "no training"
    total = len(resolved.runs) + len(resolved.extra)
    spent = measured_cost(fact.whole_cost for fact in loaded.facts.values())
    traced = "" if not loaded.missing else f", {total - len(loaded.missing)} traced"
    return f"{count(total, 'run')}{traced}" + (f", {spent}" if spent else "")


# ---------------------------------------------------------------------------------------------------
# Curves


def _charts(resolved: Resolved, loaded: Loaded) -> list[dict[str, Any]]:
    """One chart for each y axis of a line plot, with every run and layer as a series."""
    plot = resolved.experiment.plot
    if not isinstance(plot, LinePlot) or not loaded.facts:
        return []
    names = {run.name for run in resolved.runs}
    shown = Loaded(
        frame=loaded.frame[loaded.frame["run"].isin(names)],
        facts={key: fact for key, fact in loaded.facts.items() if key[0] in names},
        missing=[],
    )
    if not shown.facts:
        return []
    curves = build(plot, resolved, shown).curves
    colours = {series.key: series.style.colour for series in arrange(plot, resolved, curves).series}
    labels = {fact.run: fact.label for fact in shown.facts.values()}
    charts = []
    for index, axis in enumerate(plot.y):
        of_axis = [curve for curve in curves if curve.axis == index and len(_points(curve)[0])]
        if of_axis:
            series = [_series(curve, labels, colours, plot) for curve in of_axis]
            x = "training step" if plot.x.metric == "step" else plot.x.metric
            charts.append({"label": axis_label(axis), "scale": axis.scale, "x": x, "series": series})
    return charts


def _series(curve: Curve, labels: Mapping[str, str], colours: Mapping[str, str], plot: LinePlot) -> dict[str, Any]:
    keys = {"run": curve.run, "layer": curve.layer, "metric": str(curve.axis), "setting": curve.setting}
    label = labels[curve.run]
    key = label if plot.series == "run" and "setting" in plot.panels else keys[plot.series]
    xs, ys = _points(curve)
    return {
        "run": label if "setting" not in plot.panels else f"{label}, {curve.setting}",
        "layer": layer_label(curve.layer),
        "colour": colours.get(key, "#555555"),
        "x": xs,
        "y": ys,
    }


def _points(curve: Curve) -> tuple[list[float], list[float | None]]:
    """At most `POINTS` points of a curve, rounded: of every stretch its smallest and its largest value.

    A curve whose seeds all diverged is that of the first of them.
    """
    import numpy as np

    x, y = np.asarray(curve.x, dtype=float), np.asarray(curve.mean, dtype=float)
    if not curve.seeds and curve.strays:
        x, y = np.asarray(curve.strays[0].x, dtype=float), np.asarray(curve.strays[0].y, dtype=float)
    keep = np.arange(len(x))
    if len(x) > POINTS:
        stretches = np.array_split(keep, POINTS // 2)
        safe = np.nan_to_num(y)
        ends = [part[[safe[part].argmin(), safe[part].argmax()]] for part in stretches]
        keep = np.unique(np.concatenate([[0], *ends, [len(x) - 1]]))
    rounded = [float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in y[keep]]
    return [round(float(value), 3) for value in x[keep]], rounded
