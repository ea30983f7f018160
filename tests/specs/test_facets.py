"""Plots whose panels and lines do not tell their curves apart are refused before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reproduce.errors import SpecError
from reproduce.specs.facets import LineOf, facet_problems
from reproduce.specs.load import load_experiment
from reproduce.specs.schema import LinePlot

ONE, TWO = LineOf("a", "A", "s"), LineOf("b", "B", "s")
KURTOSIS, RMS, LOSS = {"metric": "kurtosis"}, {"metric": "activation_rms"}, {"metric": "eval_loss"}
UPDATE = {"metric": "m2_update_linear"}


def told(runs: list[LineOf], **plot: Any) -> list[str]:
    return [problem.text for problem in facet_problems(LinePlot.model_validate(plot), runs)]


@pytest.mark.parametrize(
    ("runs", "plot"),
    [
        ([ONE, TWO], {"y": [KURTOSIS], "layers": [2]}),
        ([ONE, TWO], {"y": [LOSS]}),
        ([ONE, TWO], {"y": [KURTOSIS], "layers": "mean"}),
        ([ONE, TWO], {"y": [KURTOSIS], "panels": ["layer"]}),
        ([ONE, TWO], {"y": [KURTOSIS, RMS], "panels": ["metric", "run"], "series": "layer"}),
        ([ONE], {"y": [KURTOSIS, RMS], "layers": [1], "series": "metric"}),
        ([ONE], {"y": [UPDATE, {"metric": "m2_update_quadratic"}], "series": "metric"}),
        ([ONE, LineOf("b", "A", "t")], {"y": [KURTOSIS], "layers": [1], "panels": ["setting"]}),
        ([ONE, LineOf("b", "A", "t")], {"y": [KURTOSIS], "layers": [1], "panels": ["setting"], "series": "layer"}),
        # A loss has no layers and so is told apart from a metric that has.
        ([ONE], {"y": [LOSS, KURTOSIS], "layers": [1, 2], "series": "layer"}),
    ],
)
def test_curves_that_are_told_apart_are_no_problem(runs: list[LineOf], plot: dict[str, Any]) -> None:
    assert told(runs, **plot) == []


@pytest.mark.parametrize(
    ("runs", "plot", "text"),
    [
        ([ONE], {"y": [KURTOSIS]}, "layers of a would be drawn as one line: add layer to panels"),
        ([ONE], {"y": [KURTOSIS], "layers": "all"}, "layers of a would be"),
        ([ONE], {"y": [KURTOSIS], "layers": [1, 2]}, "layers of a would be"),
        ([ONE], {"y": [LOSS, {"metric": "train_loss"}]}, "metrics 1 and 2 of y would be"),
        ([ONE, TWO], {"y": [KURTOSIS], "series": "layer"}, "runs a and b would be drawn as one line: add run"),
        ([ONE, LineOf("b", "A", "s")], {"y": [LOSS], "panels": ["setting"]}, "runs a and b would be"),
        (
            [ONE],
            {"y": [KURTOSIS, {**RMS, "scale": "log"}], "layers": [1], "series": "metric"},
            "both a linear and a log",
        ),
        ([ONE], {"y": [LOSS], "panels": ["run", "metric", "layer"]}, "more than two facets"),
    ],
)
def test_curves_that_fall_together_are_named(runs: list[LineOf], plot: dict[str, Any], text: str) -> None:
    (problem,) = told(runs, **plot)
    assert text in problem


def test_a_spec_that_cannot_be_drawn_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "id: mine\ntitle: T\nsetting: codeparrot-130m\nruns: [cp-op, cp-preln]\n"
        "plot:\n  kind: lines\n  y: [{metric: kurtosis}]\n  layers: [1, 2]\n  panels: [metric]\n"
    )
    with pytest.raises(SpecError, match=r"mine.yaml:9:11: plot.panels: layers of cp-op would be drawn as one line"):
        load_experiment(str(file))
