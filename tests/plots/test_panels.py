from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from matplotlib.colors import to_rgb
from pydantic import ValidationError

from reproduce.errors import SpecError
from reproduce.plots.curves import build
from reproduce.plots.panels import Arrangement, arrange, grid_shape
from reproduce.specs.schema import LinePlot

from .synthetic import KURTOSIS, OP, PRE_LN, Run, case

CORRELATION = {"metric": "input_correlation_mean"}
TWO = [Run("pre", "Pre-LN", block=PRE_LN), Run("op", "OP", block=OP)]
FINEWEB = [
    Run("small-op", "OP", setting="fineweb-1.2b", block=OP),
    Run("small-pre", "Pre-Norm", setting="fineweb-1.2b", block=PRE_LN),
    Run("big-op", "OP", setting="fineweb-7b", block={**OP, "attn_gain": 0.05}),
    Run("big-pre", "Pre-Norm", setting="fineweb-7b", block=PRE_LN),
    Run("big-eps", "Pre-Norm, eps 1e-5", setting="fineweb-7b", block=PRE_LN),
]


def arranged(runs: list[Run], y: list[dict[str, Any]], **rest: Any) -> Arrangement:
    one = case({"kind": "lines", "y": y, **rest}, runs, steps=40)
    plot = one.resolved.experiment.plot
    assert isinstance(plot, LinePlot)
    return arrange(plot, one.resolved, build(plot, one.resolved, one.loaded).curves)


def cells(grid: Arrangement) -> dict[tuple[int, int], tuple[str, list[str]]]:
    return {(p.row, p.column): (p.title, [key for key, _ in p.curves]) for p in grid.panels}


@pytest.mark.parametrize(
    ("panels", "shape"),
    [
        *((1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (2, 2)), (5, (2, 3)), (6, (2, 3)), (7, (2, 4)), (8, (2, 4))),
        *((12, (3, 4)), (24, (4, 6)), (25, (5, 5)), (33, (5, 7))),
    ],
)
def test_grids_are_landscape_and_nearly_full(panels: int, shape: tuple[int, int]) -> None:
    assert grid_shape(panels) == shape


def test_without_facets_all_runs_share_one_panel() -> None:
    assert cells(arranged(TWO, [KURTOSIS], layers=[2])) == {(0, 0): ("", ["pre", "op"])}


def test_one_facet_wraps_by_depth() -> None:
    grid = arranged(TWO, [KURTOSIS], layers="all", panels=["layer"])
    assert (grid.rows, grid.columns) == (2, 2)
    assert [p.title for p in grid.panels] == ["layer 1", "layer 2", "layer 3", "unembedding"]
    assert all([key for key, _ in p.curves] == ["pre", "op"] for p in grid.panels)


def test_two_facets_are_rows_and_columns() -> None:
    grid = arranged(TWO, [KURTOSIS, CORRELATION], layers="all", panels=["run", "metric"], series="layer")
    layers = ["1", "2", "3", "unembed"]
    assert cells(grid) == {
        (0, 0): ("Pre-LN", layers),
        (0, 1): ("Pre-LN", layers),
        (1, 0): ("OP", layers),
        (1, 1): ("OP", layers),
    }
    assert [p.axis for p in grid.panels] == [0, 1, 0, 1]
    assert [series.label for series in grid.series] == ["layer 1", "layer 2", "layer 3", "unembedding"]


def test_metrics_as_series_of_each_run() -> None:
    y = [{"metric": f"m4_update_{order}", "cumulative": True} for order in ("quadratic", "cubic", "quartic")]
    grid = arranged(TWO, y, layers=[2], panels=["run"], series="metric")
    assert cells(grid) == {(0, 0): ("Pre-LN", ["0", "1", "2"]), (0, 1): ("OP", ["0", "1", "2"])}
    assert [series.label for series in grid.series] == ["quadratic", "cubic", "quartic"]


def test_beside_panels_of_settings_equal_labels_are_one_series() -> None:
    grid = arranged(FINEWEB, [{"metric": "train_loss"}, KURTOSIS], layers="mean", panels=["metric", "setting"])
    pair, three = ["OP", "Pre-Norm"], ["OP", "Pre-Norm", "Pre-Norm, eps 1e-5"]
    assert cells(grid) == {
        (0, 0): ("fineweb-1.2b", pair),
        (0, 1): ("fineweb-7b", three),
        (1, 0): ("fineweb-1.2b", pair),
        (1, 1): ("fineweb-7b", three),
    }
    assert [series.runs for series in grid.series] == [("small-op", "big-op"), ("small-pre", "big-pre"), ("big-eps",)]


def test_settings_as_series() -> None:
    runs = [Run("a", "OP", setting="small"), Run("b", "OP", setting="big")]
    grid = arranged(runs, [KURTOSIS], layers=[2], series="setting")
    assert cells(grid) == {(0, 0): ("", ["small", "big"])}


def test_an_absent_run_moves_no_other_s_colour() -> None:
    both = arranged([*TWO, Run("x", "X")], [KURTOSIS], layers=[2])
    absent = arranged(
        [Run("pre", "Pre-LN", block=PRE_LN, trained=False), TWO[1], Run("x", "X")], [KURTOSIS], layers=[2]
    )
    assert [series.key for series in absent.series] == ["op", "x"]
    assert absent.series == both.series[1:]


def test_a_sweep_goes_from_dark_to_light() -> None:
    runs = [Run(f"eps{i}", f"eps 1e-{i}") for i in (8, 7, 6, 5)]
    styles = [series.style for series in arranged(runs, [KURTOSIS], layers=[2], sweep=True).series]
    light = [sum(to_rgb(style.colour)) for style in styles]
    assert light == sorted(light)
    assert len(set(light)) == 4
    absent = [replace(runs[0], trained=False), *runs[1:]]
    assert [s.style for s in arranged(absent, [KURTOSIS], layers=[2], sweep=True).series] == styles[1:]


def test_a_sweep_of_anything_but_runs_is_refused() -> None:
    with pytest.raises(ValidationError, match="sweep goes with series run, not layer"):
        LinePlot.model_validate({"kind": "lines", "y": [KURTOSIS], "series": "layer", "sweep": True})


def test_five_blocks_at_two_rates_share_a_colour_by_block() -> None:
    slow = [Run(f"{run.name}-slow", f"{run.label}, slow", block=run.block, lr=3e-4) for run in TWO]
    styles = {series.key: series.style for series in arranged([*TWO, *slow], [KURTOSIS], layers=[2]).series}
    assert styles["pre"].colour == styles["pre-slow"].colour != styles["op"].colour
    assert styles["pre"].dashes != styles["pre-slow"].dashes == styles["op-slow"].dashes


@pytest.mark.parametrize(
    ("runs", "rest", "message"),
    [
        (TWO[:1], {"y": [KURTOSIS], "layers": "all"}, "layers 1 and 2 of pre"),
        (TWO, {"y": [KURTOSIS], "layers": "all", "series": "layer"}, "runs pre and op"),
        (TWO[:1], {"y": [KURTOSIS, CORRELATION], "layers": [2]}, "two metrics of pre"),
        (TWO[:1], {"y": [KURTOSIS, CORRELATION], "layers": [2], "series": "metric"}, "both a linear and a log axis"),
        (TWO, {"y": [KURTOSIS], "layers": "all", "panels": ["run", "layer", "metric"]}, "more than two facets"),
    ],
)
def test_a_plot_that_would_mix_curves_up_is_refused(runs: list[Run], rest: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        arranged(runs, **rest)
    assert caught.value.hint
    assert caught.value.exit_code == 2
