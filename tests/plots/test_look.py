"""What a user may choose of a figure beyond its spec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reproduce.errors import OfeError, SpecError
from reproduce.plots.curves import build
from reproduce.plots.look import Look, parse_layers
from reproduce.plots.rendering import render
from tests.plots.synthetic import KURTOSIS, OP, PRE_LN, Case, Run, case


def line_experiment() -> Case:
    runs = [Run("ln", "Pre-LN", block=PRE_LN), Run("op", "OP", block=OP)]
    return case({"kind": "lines", "y": [KURTOSIS], "layers": [1]}, runs)


@pytest.mark.parametrize(("style", "size"), [("paper", 1.0), ("notebook", 0.85), ("talk", 0.7)])
def test_type_is_larger_beside_a_panel_that_has_as_many_dots(style: str, size: float, tmp_path: Path) -> None:
    one = line_experiment()
    look = Look(style=style)
    render(one.resolved, one.loaded, [], tmp_path, look=look)
    with Image.open(next(tmp_path.glob("*.png"))) as image:
        assert image.info["dpi"][0] == pytest.approx(150 / size, rel=0.01)


def test_choices_name_a_folder_and_none_name_nothing() -> None:
    assert Look().words() == []
    assert Look("talk", (2, "unembed"), 50, "log").words() == ["style=talk", "layers=2+unembed", "smooth=50", "y=log"]


def test_layers_are_read() -> None:
    assert parse_layers(None) == ()
    assert parse_layers("2, 5,2,unembed") == (2, 5, "unembed")
    with pytest.raises(OfeError, match="no layer x"):
        parse_layers("1,x")


def test_layers_and_the_y_axis_replace_those_of_the_spec() -> None:
    one = line_experiment()
    plot = Look(layers=(1, 2), y_scale="linear").plot_of(one.resolved)
    assert plot.layers == [1, 2]
    assert "layer" in (*plot.panels, plot.series)
    assert {axis.scale for axis in plot.y} == {"linear"}
    with pytest.raises(SpecError, match="no layer 99"):
        Look(layers=(99,)).plot_of(one.resolved)


def test_a_running_mean_is_over_steps_and_not_over_points() -> None:
    one = line_experiment()
    plot = Look(layers=(1,)).plot_of(one.resolved)
    raw, smooth = (build(plot, one.resolved, one.loaded, steps).curves[0] for steps in (1, 40))
    spacing = np.unique(np.diff(raw.x)[-60:])  # probes are denser at the start
    assert len(spacing) == 1
    points = 2 * (round(40 / spacing[0]) // 2) + 1
    assert points > 1
    last = len(raw.x) - points
    assert smooth.mean[last] == pytest.approx(raw.mean[last - points // 2 : last + points // 2 + 1].mean())
    assert (raw.window, smooth.window) == (1, 40)
