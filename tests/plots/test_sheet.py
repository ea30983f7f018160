from __future__ import annotations

from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.transforms import Bbox

from reproduce.plots.badges import Badge, Chip
from reproduce.plots.sheet import Words, sheet
from reproduce.plots.theme import theme

LONG = "Pre-LN at 1.2B: kurtosis follows input correlation and downweighted residuals lower both of them"
WORDS = Words(
    title=f"fig5 · {LONG}",
    subtitle="arXiv 2405.19279, v1 Figure 5, v2 Figure 5",
    badges=[
        Badge("SUBSTITUTE DATA: the documentation and docstrings of Python 3.11", "warning"),
        Badge("laptop scale"),
    ],
    caption=f"laptop scale · {LONG} {LONG}",
    notes=["no trace yet of OP (seed 0)", LONG],
    chips=[Chip(f"c{i} ✗ not reproduced", "#b02318") for i in range(9)],
)


def extents(figure: Figure) -> list[tuple[str, Bbox]]:
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts]


@pytest.mark.parametrize("width", [1.0, 6.0, 11.0])
def test_nothing_overlaps_or_leaves_the_page(width: float) -> None:
    with theme():
        figure, _ = sheet(WORDS, width, 2.0)
        found = extents(figure)
        page = figure.bbox
        for text, box in found:
            assert page.x0 <= box.x0, text
            assert box.x1 <= page.x1, text
            assert page.y0 <= box.y0, text
            assert box.y1 <= page.y1, text
        for (one, a), (other, b) in combinations(found, 2):
            shrunk = Bbox.from_extents(a.x0 + 1, a.y0 + 3, a.x1 - 1, a.y1 - 3)
            assert not shrunk.overlaps(b), f"{one!r} and {other!r}"


def test_the_box_encloses_its_badges() -> None:
    with theme():
        figure, _ = sheet(WORDS, 8, 2)
        [box] = figure.findobj(FancyBboxPatch)
        frame = box.get_window_extent(FigureCanvasAgg(figure).get_renderer())
        badges = [extent for text, extent in extents(figure) if text.startswith(("SUBSTITUTE", "laptop scale"))][:2]
        assert len(badges) == 2
        for extent in badges:
            assert frame.x0 < extent.x0
            assert extent.x1 < frame.x1
            assert frame.y0 < extent.y0
            assert extent.y1 < frame.y1


def test_the_page_grows_with_its_words() -> None:
    short = Words("t", "s", [], "c")
    assert sheet(WORDS, 8, 2)[0].get_figheight() > sheet(short, 8, 2)[0].get_figheight() > 2


def test_all_words_are_there() -> None:
    figure, _ = sheet(WORDS, 8, 2)
    said = " ".join(text.get_text() for text in figure.texts)
    assert said.startswith(WORDS.title)
    assert f"Notes: no trace yet of OP (seed 0); {LONG}" in said
    assert said.count("✗ not reproduced") == 9


def test_a_sheet_without_badges_has_no_box() -> None:
    figure, _ = sheet(Words("t", "s", [], "c"), 8, 2)
    assert figure.findobj(FancyBboxPatch) == []
