"""The page around every picture: title and badges above it, caption, notes and verdicts below it.

All lengths are in inches, and y runs from the top of the page down. Texts are measured and wrapped before the figure
exists, so that the page grows with what it has to say and nothing overlaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import FancyBboxPatch

from reproduce.plots.badges import Badge, Chip
from reproduce.plots.theme import INK, QUIET, WARN, text_width, wrap

_MARGIN = 0.14
_TITLE, _SMALL, _BADGE = 10.5, 7.5, 7.5
"""Type sizes in points."""
_PAD = 0.07
"""Space between the badges and the edge of their box."""
_GAP = 0.3
"""Space between the title and the box."""
_HANG = 0.16
"""Indent of the second line of a verdict, which stands below the words and not below the symbol."""
_LEAST_WIDTH = 6.0
"""Least width of a page, so that short lines of text are not broken into many."""
_INSET = 0.1
"""Space to the left and to the right of the picture."""


@dataclass(frozen=True)
class Words:
    """All that is written around a picture."""

    title: str
    subtitle: str
    badges: Sequence[Badge]
    caption: str
    notes: Sequence[str] = ()
    chips: Sequence[Chip] = ()


def pitch(size: float) -> float:
    """Distance in inches between two baselines of text in `size` points."""
    return size * 1.32 / 72


def sheet(words: Words, width: float, height: float) -> tuple[Figure, SubFigure]:
    """A figure with its words set, and the empty middle of the page to draw in.

    Args:
        width, height: size of the middle in inches. A narrow one is made as wide as the least page.
    """
    width = max(width, _LEAST_WIDTH)
    inner = width - 2 * _MARGIN

    badge_lines = [(line, badge) for badge in words.badges for line in wrap(badge.text, inner * 0.42, _BADGE)]
    box_width = max((text_width(line, _BADGE, bold=True) for line, _ in badge_lines), default=0.0) + 2 * _PAD
    box_height = len(badge_lines) * pitch(_BADGE) + 2 * _PAD
    title = wrap(words.title, inner - box_width - _GAP, _TITLE, bold=True)
    subtitle = wrap(words.subtitle, inner - box_width - _GAP, _SMALL)
    title_height = len(title) * pitch(_TITLE) + len(subtitle) * pitch(_SMALL)
    header = _MARGIN + max(title_height, box_height) + 0.08

    below = wrap(words.caption, inner, _SMALL)
    below += wrap("Notes: " + "; ".join(words.notes), inner, _SMALL) if words.notes else []
    rows = [(line, chip.colour) for chip in words.chips for line in _hanging(chip.text, inner)]
    footer = 0.06 + (len(below) + len(rows)) * pitch(_SMALL) + (0.05 if rows else 0) + _MARGIN

    total = header + height + footer
    figure = Figure(figsize=(width, total))
    inset = _INSET / width
    layout = ConstrainedLayoutEngine(rect=(inset, 0, 1 - 2 * inset, 1), w_pad=0.04, h_pad=0.04, hspace=0, wspace=0)
    figure.set_layout_engine(layout)
    body = figure.subfigures(3, 1, height_ratios=[header, height, footer], squeeze=False)[1, 0]

    def write(text: str, x: float, y: float, size: float, colour: str = INK, *, bold: bool = False) -> None:
        weight = "bold" if bold else "normal"
        figure.text(x / width, 1 - y / total, text, size=size, color=colour, weight=weight, va="baseline", ha="left")

    y = _MARGIN
    for line in title:
        y += pitch(_TITLE)
        write(line, _MARGIN, y - 0.03, _TITLE, bold=True)
    for line in subtitle:
        y += pitch(_SMALL)
        write(line, _MARGIN, y - 0.02, _SMALL, QUIET)
    if badge_lines:
        _box(figure, width - _MARGIN - box_width, _MARGIN, box_width, box_height, words.badges)
        for i, (line, badge) in enumerate(badge_lines):
            colour = WARN if badge.tone == "warning" else INK
            left, base = width - _MARGIN - box_width + _PAD, _MARGIN + _PAD + (i + 0.78) * pitch(_BADGE)
            write(line, left, base, _BADGE, colour, bold=badge.tone == "warning")

    y = header + height + 0.06
    for line in below:
        y += pitch(_SMALL)
        write(line, _MARGIN, y - 0.02, _SMALL, QUIET)
    y += 0.05
    for (text, indent), colour in rows:
        y += pitch(_SMALL)
        write(text, _MARGIN + indent, y - 0.02, _SMALL, colour)
    return figure, body


def body_width(figure: Figure) -> float:
    """Width in inches of the middle of a sheet."""
    return float(figure.get_figwidth()) - 2 * _INSET


def _hanging(text: str, width: float) -> list[tuple[str, float]]:
    """The lines of a text that begins with a symbol, each with its indent in inches; all but the first are indented."""
    first, *rest = wrap(text, width - _HANG, _SMALL)
    return [(first, 0.0), *((line, _HANG) for line in rest)]


def _box(figure: Figure, left: float, top: float, width: float, height: float, badges: Sequence[Badge]) -> None:
    """Draw the box behind the badges, in the colour of a warning where one of them warns."""
    warns = any(badge.tone == "warning" for badge in badges)
    page_height = float(figure.get_figheight())
    box = FancyBboxPatch(
        (left, page_height - top - height),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.04",
        transform=figure.dpi_scale_trans,
        facecolor="#fff3e2" if warns else "#f4f4f4",
        edgecolor=WARN if warns else "#aaaaaa",
        linewidth=0.8,
    )
    figure.add_artist(box)
