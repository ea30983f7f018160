from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure

from reproduce.plots.lines import draw_lines
from reproduce.plots.look import Look
from reproduce.plots.theme import theme

from .synthetic import KURTOSIS, OP, PRE_LN, Case, Run, case, legend, lines, panels, words

TWO = [Run("pre", "Pre-LN", block=PRE_LN, peak=60), Run("op", "OP", block=OP, peak=2)]
LOSS = {"metric": "train_loss"}


def drawn(one: Case) -> Figure:
    with theme():
        figure = draw_lines(one.resolved, one.loaded, one.verdicts)
        FigureCanvasAgg(figure).draw()
    return figure


def plotted(y: dict[str, Any] | list[dict[str, Any]], runs: list[Run], **rest: Any) -> Figure:
    shape = {
        name: rest.pop(name) for name in ("id", "title", "scale", "layers_of", "steps", "verdicts") if name in rest
    }
    depth = {"layers": shape.pop("layers_of")} if "layers_of" in shape else {}
    plot = {"kind": "lines", "y": y if isinstance(y, list) else [y], **rest}
    return drawn(case(plot, runs, **shape, **depth))


def labels(ax: Axes) -> tuple[str, str, str]:
    return ax.get_title(), ax.get_xlabel(), ax.get_ylabel()


def shown_ticks(ax: Axes, which: str) -> list[str]:
    axis = ax.yaxis if which == "y" else ax.xaxis
    return [label.get_text() for label in axis.get_ticklabels(which="both") if label.get_visible() and label.get_text()]


# ---------------------------------------------------------------------------------------------------
# One panel


def test_one_panel_names_its_axes_and_runs() -> None:
    figure = plotted(KURTOSIS, TWO, layers=[2], id="fig2", title="Kurtosis in block 2")
    [ax] = panels(figure)
    assert labels(ax) == ("", "training step", "kurtosis − 1")
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "log")
    assert legend(figure) == ["Pre-LN", "OP"]
    assert list(lines(ax)) == ["pre", "op"]
    assert (lines(ax)["op"][:, 1] < lines(ax)["pre"][:, 1]).sum() > 80
    said = words(figure)
    assert "fig2 · Kurtosis in block 2" in said
    assert "Layer 2." in said
    assert "2405.19279, v1 Figure 2" in said


def test_legend_and_line_have_the_same_style() -> None:
    figure = plotted(KURTOSIS, [*TWO, *(Run(f"r{i}", f"R{i}") for i in range(7))], layers=[2])
    [ax] = panels(figure)
    handles = [handle for sub in figure.subfigs for found in sub.legends for handle in found.get_lines()]
    curves = [line for line in ax.lines if not str(line.get_label()).startswith("_")]
    assert [h.get_color() for h in handles] == [line.get_color() for line in curves]
    assert [h.get_linestyle() for h in handles] == [line.get_linestyle() for line in curves]
    assert len({(line.get_color(), str(line.get_linestyle())) for line in curves}) == 9


def test_a_log_x_axis_keeps_the_initialisation() -> None:
    figure = plotted(KURTOSIS, TWO[:1], layers=[2], x={"metric": "step", "scale": "log"})
    [ax] = panels(figure)
    assert ax.get_xscale() == "symlog"
    assert ax.get_xlabel() == "training step (log)"
    assert lines(ax)["pre"][0, 0] == 0
    assert {"0", "1", "10", "100"} <= set(shown_ticks(ax, "x"))


def test_thousands_of_steps_are_short() -> None:
    [ax] = panels(plotted(KURTOSIS, TWO[:1], layers=[2], steps=2000))
    assert {"0", "500", "1k", "1.5k", "2k"} <= set(shown_ticks(ax, "x"))


def test_a_log_axis_of_less_than_two_decades_has_plain_numbers() -> None:
    [ax] = panels(plotted({"metric": "activation_rms", "scale": "log"}, TWO[:1], layers=[2]))
    assert {"1", "2", "5"} <= set(shown_ticks(ax, "y"))
    [wide] = panels(plotted(KURTOSIS, TWO, layers=[2]))
    assert all("10^" in label for label in shown_ticks(wide, "y"))


def test_an_axis_with_nothing_positive_is_drawn_empty_and_says_why() -> None:
    one = case({"kind": "lines", "y": [KURTOSIS], "layers": [2]}, TWO[:1])
    frame = one.loaded.frame.assign(value=1.0)
    figure = drawn(replace(one, loaded=replace(one.loaded, frame=frame)))
    assert "values not drawn (0 or below, or not finite)" in words(figure)


def test_epochs_as_x() -> None:
    runs = [Run("a", "Norm", kind="mlp", block={"norm": "srms"}), Run("b", "no norm", kind="mlp")]
    figure = plotted({"metric": "train_accuracy"}, runs, x={"metric": "epoch"})
    [ax] = panels(figure)
    assert labels(ax) == ("", "epoch", "train accuracy")
    assert lines(ax)["a"][-1, 0] == 40


def test_a_single_probe_is_a_dot() -> None:
    [ax] = panels(plotted(KURTOSIS, TWO[:1], layers=[2], x_max={"laptop": 0}))
    assert [line.get_marker() for line in ax.lines] == ["o"]


# ---------------------------------------------------------------------------------------------------
# Grids


def test_panels_by_layer_share_their_y_axis_and_label_the_outside_only() -> None:
    figure = plotted(KURTOSIS, TWO, layers="all", panels=["layer"], layers_of=6)
    axes = panels(figure)
    assert [ax.get_title() for ax in axes] == [*(f"layer {i}" for i in range(1, 7)), "unembedding"]
    assert len({ax.get_ylim() for ax in axes}) == 1
    assert [ax.get_ylabel() for ax in axes] == ["kurtosis − 1", "", "", "", "kurtosis − 1", "", ""]
    assert [bool(shown_ticks(ax, "y")) for ax in axes] == [True, False, False, False, True, False, False]
    assert [ax.get_xlabel() for ax in axes] == ["", "", "", "training step"] + ["training step"] * 3
    assert legend(figure) == ["Pre-LN", "OP"]


def test_the_legend_takes_an_empty_cell_where_there_is_one() -> None:
    seven = plotted(KURTOSIS, TWO, layers="all", panels=["layer"], layers_of=6)
    six = plotted(KURTOSIS, TWO, layers="blocks", panels=["layer"], layers_of=6)
    assert [bool(sub.legends) for sub in seven.subfigs] == [False, False, False]
    assert [bool(sub.legends) for sub in six.subfigs] == [False, True, False]


def test_runs_by_metrics_share_each_metric_s_axis() -> None:
    y = [KURTOSIS, {"metric": "input_correlation_mean"}]
    figure = plotted(y, TWO, layers="all", panels=["run", "metric"], series="layer")
    top_left, top_right, low_left, low_right = panels(figure)
    assert [ax.get_title() for ax in (top_left, low_left)] == ["Pre-LN", "OP"]
    assert top_left.get_ylabel() == low_left.get_ylabel() == "kurtosis − 1"
    assert top_right.get_ylabel() == low_right.get_ylabel() == "input correlation (mean)"
    assert top_left.get_ylim() == low_left.get_ylim() != top_right.get_ylim() == low_right.get_ylim()
    assert (top_left.get_yscale(), top_right.get_yscale()) == ("log", "linear")
    assert legend(figure) == ["layer 1", "layer 2", "layer 3", "unembedding"]


def test_many_layers_get_a_colour_bar_and_only_the_unembedding_a_name() -> None:
    figure = plotted(KURTOSIS, TWO, layers="all", panels=["run"], series="layer", layers_of=24)
    assert legend(figure) == ["unembedding"]
    [bar] = [ax for sub in figure.subfigs for ax in sub.axes if ax.get_label() == "<colorbar>"]
    assert bar.get_ylabel() == "layer"
    assert [label.get_text() for label in bar.get_yticklabels()] == ["1", "4", "8", "12", "16", "20", "24"]
    left, right = panels(figure)
    curves = {str(line.get_label()): line.get_color() for line in left.lines}
    assert len(set(curves.values())) == 25
    assert curves == {str(line.get_label()): line.get_color() for line in right.lines}


def test_twenty_four_panels_keep_apart() -> None:
    figure = plotted({"metric": "mmr_mean", "scale": "log"}, TWO, layers="blocks", panels=["layer"], layers_of=24)
    axes = panels(figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [ax.get_tightbbox(renderer) for ax in axes]
    assert len(boxes) == 24
    for i, box in enumerate(boxes):
        assert not any(box.shrunk(0.98, 0.98).overlaps(other) for other in boxes[i + 1 :])
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
    assert min(ax.bbox.width for ax in axes) > 0.6 * max(box.width for box in boxes)


def test_a_panel_by_metric_has_its_own_scale_and_label() -> None:
    y = [
        KURTOSIS,
        {"metric": "m4_update_linear", "cumulative": True},
        {"metric": "m2_update_linear + m2_update_quadratic", "cumulative": True},
    ]
    axes = panels(plotted(y, TWO, layers=[2], panels=["metric"]))
    assert [ax.get_yscale() for ax in axes] == ["log", "linear", "linear"]
    assert [" ".join(ax.get_ylabel().split()) for ax in axes] == [
        "kurtosis − 1",
        "cumulative m4 update, linear",
        "cumulative m2 update, linear + quadratic",
    ]


def test_metrics_as_series_name_the_axis_by_what_they_share() -> None:
    y = [{"metric": f"m4_update_{order}", "cumulative": True} for order in ("quadratic", "cubic", "quartic")]
    figure = plotted(y, TWO, layers=[2], panels=["run"], series="metric")
    left, right = panels(figure)
    assert (left.get_ylabel(), right.get_ylabel()) == ("cumulative m4 update", "")
    assert legend(figure) == ["quadratic", "cubic", "quartic"]
    assert list(lines(left)) == ["0", "1", "2"]


# ---------------------------------------------------------------------------------------------------
# Seeds, noise, divergence, absence


def test_seeds_are_a_mean_and_a_band_and_are_counted() -> None:
    figure = plotted(KURTOSIS, [Run("a", "A", seeds=3), Run("b", "B", seeds=3)], layers=[2])
    [ax] = panels(figure)
    assert len([band for band in ax.collections if isinstance(band, FillBetweenPolyCollection)]) == 2
    said = " ".join(words(figure).split())
    assert "n = 3 seeds" in said
    assert "Line: mean over seeds; band: min to max." in said


def test_a_single_seed_has_no_band() -> None:
    figure = plotted(KURTOSIS, TWO, layers=[2])
    assert not panels(figure)[0].collections
    assert "n = 1 seed." in words(figure)
    assert "band" not in words(figure)


def test_noisy_losses_are_smoothed_and_say_so() -> None:
    figure = plotted(LOSS, TWO)
    [ax] = panels(figure)
    raw = [line for line in ax.lines if line.get_label() == "_raw"]
    assert len(raw) == 2
    assert all(line.get_alpha() < 0.5 for line in raw)
    assert np.std(np.diff(lines(ax)["pre"][:, 1])) < 0.5 * np.std(np.diff(raw[0].get_ydata()))
    assert "Running mean over 5 steps; faint: as measured, beyond the axis" in " ".join(words(figure).split())


@pytest.mark.parametrize(("step", "leaves"), [(2, False), (60, True)], ids=["before the axis begins", "later"])
def test_raw_values_beyond_the_axis_are_told(step: int, leaves: bool) -> None:
    one = case({"kind": "lines", "y": [LOSS]}, TWO)
    frame = one.loaded.frame.copy()
    loss = frame["metric"] == "loss"
    frame.loc[loss, "value"] = 5 - frame["step"] / 100  # without noise
    frame.loc[loss & (frame["step"] == step), "value"] += 50
    said = " ".join(words(drawn(replace(one, loaded=replace(one.loaded, frame=frame)))).split())
    assert ("faint: as measured, beyond the axis in places." in said) == leaves
    assert ("faint: as measured." in said) != leaves


def test_a_picture_of_chosen_layers_says_that_verdicts_read_others() -> None:
    one = case({"kind": "lines", "y": [KURTOSIS], "layers": [1]}, [Run("pre", "Pre-LN")])
    with theme():
        said = [words(draw_lines(one.resolved, one.loaded, [], look)) for look in (Look(), Look(layers=(2,)))]
    note = "verdicts read all layers that their claims name, drawn or not"
    assert [note in " ".join(text.split()) for text in said] == [False, True]


def test_raw_losses_that_vary_by_more_than_the_axis_spans_stay_away() -> None:
    """Losses of batches of one sequence filled the panel with bars."""
    one = case({"kind": "lines", "y": [LOSS]}, TWO)
    frame = one.loaded.frame.copy()
    loss = frame["metric"] == "loss"
    place = frame.loc[loss, "step"].rank(method="dense")
    frame.loc[loss, "value"] = 5 - place / 1000 + 3 * (-1.0) ** place
    figure = drawn(replace(one, loaded=replace(one.loaded, frame=frame)))
    assert not [line for line in panels(figure)[0].lines if line.get_label() == "_raw"]
    said = " ".join(words(figure).split())
    assert "Running mean over" in said
    assert "faint" not in said


def test_raw_lines_that_would_hide_one_another_stay_away() -> None:
    figure = plotted(LOSS, [Run(f"r{i}", f"R{i}") for i in range(7)])
    assert not [line for line in panels(figure)[0].lines if line.get_label() == "_raw"]
    assert "faint" not in words(figure)


def test_a_loss_axis_shows_where_runs_differ_and_not_the_first_steps() -> None:
    figure = plotted(LOSS, TWO)
    [ax] = panels(figure)
    curve = lines(ax)["pre"]
    low, high = ax.get_ylim()
    assert curve[0, 1] > high
    late = curve[curve[:, 0] >= 40, 1]
    assert low < late.min() < late.max() < high
    assert "The loss axis spans the lines after the first 10% of the run." in " ".join(words(figure).split())


def test_a_diverged_run_ends_in_a_cross_and_the_legend_says_when() -> None:
    figure = plotted(LOSS, [*TWO, Run("naive", "No norms", fails_at=150)])
    [ax] = panels(figure)
    [cross] = [line for line in ax.lines if line.get_marker() == "x"]
    [stray] = [line for line in ax.lines if line.get_label() == "_stray"]
    assert cross.get_color() == stray.get_color()
    assert cross.get_xdata()[0] == stray.get_xdata()[-1] == 149
    low, high = ax.get_ylim()
    assert low <= cross.get_ydata()[0] <= high, "a value beyond the axis is marked at its edge"
    assert high < 5, "a run that blows up must not squeeze the others"
    assert "No norms (diverged at step 150)" in legend(figure)


def test_a_figure_of_diverged_runs_alone_has_an_axis() -> None:
    [ax] = panels(plotted(LOSS, [Run("naive", "No norms", fails_at=150)]))
    low, high = ax.get_ylim()
    assert 1 < low < high


def test_a_diverged_seed_is_drawn_thin_beside_the_mean() -> None:
    figure = plotted(KURTOSIS, [Run("a", "A", seeds=3, fails_at=120)], layers=[2])
    [ax] = panels(figure)
    [stray] = [line for line in ax.lines if line.get_label() == "_stray"]
    [mean] = [line for line in ax.lines if line.get_label() == "a"]
    assert stray.get_linewidth() < mean.get_linewidth()
    assert mean.get_xdata()[-1] == 400
    assert legend(figure) == ["A (1 of 3 seeds diverged at step 120)"]


def test_runs_as_panels_say_there_when_they_diverged() -> None:
    runs = [TWO[0], Run("naive", "No norms", fails_at=150)]
    figure = plotted(KURTOSIS, runs, layers="all", panels=["run"], series="layer")
    assert [ax.get_title() for ax in panels(figure)] == ["Pre-LN", "No norms\n(diverged at step 150)"]


def test_divergence_that_neither_legend_nor_panel_names_is_a_note() -> None:
    figure = plotted(KURTOSIS, [Run("naive", "No norms", fails_at=150)], layers="all", series="layer")
    assert "Notes: No norms (diverged at step 150)" in words(figure)


def test_what_is_missing_is_listed() -> None:
    figure = plotted(KURTOSIS, [*TWO, Run("soap", "SOAP", seeds=2, trained=False)], layers=[2])
    assert "Notes: no trace yet of SOAP (seed 0, 1)" in words(figure)
    assert legend(figure) == ["Pre-LN", "OP"]


@pytest.mark.parametrize(
    ("scale", "badge"), [("laptop", "laptop scale"), ("smoke", "smoke scale: plumbing only, not evidence")]
)
def test_every_figure_wears_its_badges_and_verdicts(scale: str, badge: str) -> None:
    runs = [replace(run, reference=True) for run in TWO]
    verdicts = [("c1", "reproduced"), ("c2", "not reproduced")]
    said = words(plotted(KURTOSIS, runs, layers=[2], scale=scale, verdicts=verdicts)).splitlines()
    assert badge in said
    assert "shipped reference trace" in said
    assert any(line.startswith("SUBSTITUTE DATA: Python 3.11") for line in said)
    assert {"✓ 1 of 2 claims reproduced: c1", "✗ c2 not reproduced: says"} <= set(said)


@pytest.mark.parametrize("facets", [[], ["layer"]])
def test_a_metric_that_no_run_recorded_leaves_a_page_that_says_so(facets: list[str]) -> None:
    runs = [Run("pre", "Pre-LN", without=("kurtosis",))]
    figure = plotted(KURTOSIS, runs, layers=[2], panels=facets)
    assert panels(figure) == []
    assert "Notes: Pre-LN: no kurtosis recorded" in words(figure)
