from __future__ import annotations

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from reproduce.plots.theme import LineStyle, ramp, series_styles, text_width, theme, wrap


def test_the_theme_is_undone_on_leaving() -> None:
    before = dict(matplotlib.rcParams)
    with theme():
        assert matplotlib.rcParams["svg.hashsalt"] == "ofe"
        assert not matplotlib.rcParams["axes.spines.top"]
    assert dict(matplotlib.rcParams) == before


def test_a_user_s_own_settings_do_not_reach_a_figure() -> None:
    with matplotlib.rc_context({"lines.linewidth": 7.0, "axes.titleweight": "bold"}), theme():
        assert matplotlib.rcParams["lines.linewidth"] < 2
        assert matplotlib.rcParams["axes.titleweight"] == "normal"


def test_few_series_differ_in_colour_alone() -> None:
    styles = series_styles(list("abcdef"))
    assert len({style.colour for style in styles}) == 6
    assert {style.dashes for style in styles} == {"-"}


def test_many_series_differ_in_dashes_too() -> None:
    styles = series_styles([str(i) for i in range(15)])
    assert len(set(styles)) == 15
    assert len({str(style.dashes) for style in styles}) > 1


def test_a_full_crossing_shares_colours_and_tells_members_by_dashes() -> None:
    groups = ["pre-ln", "op", "post-ln"]
    styles = series_styles(groups * 2)
    assert [style.colour for style in styles[:3]] == [style.colour for style in styles[3:]]
    assert {style.dashes for style in styles[:3]} == {"-"}
    assert "-" not in {style.dashes for style in styles[3:]}


def test_groups_of_unequal_size_keep_their_own_colours() -> None:
    styles = series_styles(["op", "pre-ln", "pre-ln", "pre-ln"])
    assert len({style.colour for style in styles}) == 4


def test_a_style_does_not_depend_on_later_series() -> None:
    assert series_styles(list("abc"))[:2] == series_styles(list("ab"))
    assert series_styles(["a"]) == [LineStyle(series_styles(["b"])[0].colour)]


def test_a_ramp_gets_lighter() -> None:
    light = [sum(to_rgb(ramp(24)(i))) for i in range(24)]
    assert ramp(24).N == 24
    assert light[0] < light[12] < light[23] < 2.4, "the last must stand out from white paper"


@pytest.mark.parametrize(("text", "bold"), [("SUBSTITUTE DATA: Python 3.11", True), ("kurtosis − 1, layer 12", False)])
def test_measured_widths_are_those_that_are_drawn(text: str, bold: bool) -> None:
    with theme():
        figure = Figure(figsize=(8, 1))
        artist = figure.text(0, 0, text, size=7.5, weight="bold" if bold else "normal")
        drawn = artist.get_window_extent(FigureCanvasAgg(figure).get_renderer()).width / figure.dpi
    assert text_width(text, 7.5, bold=bold) == pytest.approx(drawn, rel=0.02, abs=0.02)


def test_wrapped_lines_fit_and_lose_no_word() -> None:
    text = "A smaller learning rate means smaller outlier features for every block"
    lines = wrap(text, 1.5, 8)
    assert len(lines) > 2
    assert " ".join(lines) == text
    assert all(text_width(line, 8) <= 1.5 for line in lines)


def test_a_word_too_long_stands_alone() -> None:
    assert wrap("an unbreakablylongword here", 0.3, 8) == ["an", "unbreakablylongword", "here"]
    assert wrap("", 1, 8) == []


def test_a_block_has_the_same_colour_whatever_stands_beside_it() -> None:
    op = series_styles(["a", "b"], ["pre-ln", "op"])[1]
    assert series_styles(["a", "b", "c"], ["op", None, "post-ln"])[0] == op
    crossing = series_styles(["a", "b", "a", "b"], ["op", "naive", "op", "naive"])
    assert [style.colour for style in crossing[::2]] == [op.colour, op.colour]


def test_a_second_run_of_a_block_has_a_colour_of_its_own() -> None:
    styles = series_styles(list("abcd"), ["pre-ln", "pre-ln", None, "op"])
    assert len({style.colour for style in styles}) == 4
    assert styles[0] == series_styles(["x"], ["pre-ln"])[0]
