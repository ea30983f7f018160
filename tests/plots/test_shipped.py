"""Every shipped figure can be drawn: its facets tell its curves apart, its columns name what there is."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from reproduce.config import RunConfig
from reproduce.plots.diagram import draw_diagram
from reproduce.plots.lines import draw_lines
from reproduce.plots.methods import cells, draw_methods, methods_words
from reproduce.plots.names import block_name
from reproduce.plots.table import draw_table, tabulate
from reproduce.plots.theme import series_styles, theme
from reproduce.specs.load import load_experiment
from reproduce.specs.resolve import resolve
from reproduce.specs.runs import Resolved
from reproduce.specs.schema import DiagramPlot, LinePlot, MethodsPlot
from reproduce.store.frame import COLUMNS, Loaded

from .synthetic import Run, checkpoint_trace, facts_of, in_frame, panels, trace, words

ROOT = Path(__file__).parents[2] / "experiments"
IDS = sorted(path.stem for path in ROOT.glob("*.yaml"))


def loaded(resolved: Resolved) -> Loaded:
    """Short traces for the runs of a figure, with as many layers as their models have."""
    parts, facts = [], {}
    for run in resolved.runs:
        if isinstance(run.config, RunConfig):
            records = trace(Run(run.name, run.label), run.layers, 20, run.seed)
        else:
            records = checkpoint_trace(run)
        parts.append(in_frame(records, run))
        facts[run.name, run.seed] = facts_of(run, None, substitute=not run.paper_data, reference=False)
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))
    return Loaded(frame.astype(COLUMNS), facts, [])


@pytest.mark.parametrize("name", IDS)
def test_every_shipped_figure_is_drawn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFE_EXPERIMENTS", str(ROOT))
    resolved = resolve(load_experiment(name), "smoke", fingerprint=lambda data: "")
    plot = resolved.experiment.plot
    with theme():
        if isinstance(plot, DiagramPlot):
            figure = draw_diagram(resolved.experiment, plot)
        elif not resolved.runs:
            assert resolved.experiment.kind == "pretrained"
            return
        elif isinstance(plot, LinePlot):
            figure = draw_lines(resolved, loaded(resolved), [])
            check_lines(figure, plot)
        elif isinstance(plot, MethodsPlot):
            found = cells(resolved, loaded(resolved))
            figure = draw_methods(found, methods_words(resolved, loaded(resolved), [], found))
        else:
            figure = draw_table(tabulate(resolved, loaded(resolved)))
    assert f"{name} · " in words(figure)


def check_lines(figure: Figure, plot: LinePlot) -> None:
    for ax in panels(figure):
        curves = [line for line in ax.lines if not str(line.get_label()).startswith("_")]
        assert curves, ax.get_title()
        assert len({(line.get_color(), str(line.get_linestyle())) for line in curves}) == len(curves)
    labels = [" ".join(ax.get_ylabel().split()) for ax in panels(figure)]
    assert any(axis.form == "variance" for axis in plot.y) == any("− 1" in label for label in labels)
    assert "plumbing only" in words(figure)


def test_a_run_has_one_colour_in_all_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFE_EXPERIMENTS", str(ROOT))
    styles: dict[str, set[tuple[str, str]]] = {}
    for name in IDS:
        experiment = load_experiment(name)
        plot = experiment.plot
        if not isinstance(plot, LinePlot) or plot.series != "run" or plot.sweep or "setting" in plot.panels:
            continue
        specs = {run.name: run for run in resolve(experiment, "smoke", fingerprint=lambda data: "").runs}
        models = [run.training.model for run in specs.values()]
        drawn = series_styles([model.model_dump_json() for model in models], [block_name(model) for model in models])
        for run, style in zip(specs, drawn, strict=True):
            styles.setdefault(run, set()).add((style.colour, str(style.dashes)))
    assert sum(len(found) for found in styles.values()) > 30
    assert {run: found for run, found in styles.items() if len(found) > 1} == {}
