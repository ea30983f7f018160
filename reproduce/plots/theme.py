"""How every figure looks: type sizes, colours, dashes, and the width of a text in inches.

Colours are those of seaborn's palette for the colour-blind. Where there are more lines than the eye tells apart by
colour, they differ in their dashes as well. The only typeface is DejaVu Sans, which comes with matplotlib, so that the
same data give the same picture on every machine.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib import style
from matplotlib.colors import ListedColormap, to_hex
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

DPI = 150
INK, QUIET = "#222222", "#5a5a5a"
WARN, GOOD, HALF, BAD = "#b35000", "#00704f", "#8a6500", "#b02318"
UNEMBED_COLOUR = "#7a1f1f"
GUEST_COLOUR = "#111111"
"""Colour of what a user draws into a figure: none of the palette's, so that the figure's own runs keep theirs."""

_RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "dejavusans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "legend.title_fontsize": 7.5,
    "legend.frameon": False,
    "text.hinting": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#777777",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.xmargin": 0.02,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "lines.solid_capstyle": "round",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "svg.hashsalt": "ofe",
    "pdf.fonttype": 42,
}

_COLOURS = 6
"""Number of colours that stay apart for every kind of colour vision; more lines than that need dashes."""
BLOCK_COLOURS = {"pre-ln": 0, "post-ln": 1, "pre-rms": 2, "pre-srms": 3, "op": 4, "naive": 5}
"""Place in the palette of the colour that the first run of a block has, in figures of up to six series."""
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.6)), (0, (1, 1.3)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))


def theme(line_width: float = 1.0, dots: float = 1.0) -> Any:
    """A context of matplotlib's defaults with our settings, which ends with the user's own back in force.

    A figure must be built and saved in the same context, since some settings are read only when it is saved.

    Args:
        line_width, dots: width of lines and dots per inch beside the usual ones.
    """
    scaled = {"lines.linewidth": line_width * _RC["lines.linewidth"]}
    scaled |= {"figure.dpi": round(dots * DPI), "savefig.dpi": round(dots * DPI)}
    return style.context(["default", {**_RC, **scaled}])


@dataclass(frozen=True)
class LineStyle:
    """Colour and dashes of one series."""

    colour: str
    dashes: Any = "-"


def _palette() -> list[str]:
    # The palette's own order puts two greens and two oranges side by side; this one starts with the most distinct.
    colours = sns.color_palette("colorblind")
    return [to_hex(colours[i]) for i in (0, 1, 2, 3, 4, 9, 7, 5)]


def series_styles(groups: Sequence[Hashable], blocks: Sequence[str | None] = ()) -> list[LineStyle]:
    """The style of each series.

    The series may be a full crossing, such as five blocks at two learning rates: every group has the same number of
    members, at least two. Then a group shares its colour, and its members differ in their dashes. Otherwise each series
    has a colour of its own, and more than six of them differ in their dashes too.

    Args:
        groups: for each series, the group that it belongs to.
        blocks: for each series, its block as `BLOCK_COLOURS` calls it. The first series of a block has the colour of
            that block.
    """
    palette = _palette()
    order = list(dict.fromkeys(groups))
    sizes = {groups.count(group) for group in order}
    block_of = dict(reversed(list(zip(groups, blocks, strict=False))))
    if len(order) > 1 and len(sizes) == 1 and 2 <= sizes.pop() <= len(_DASHES) and len(order) <= len(palette):
        colours = dict(zip(order, _colours([block_of.get(group) for group in order]), strict=True))
        seen: dict[Hashable, int] = dict.fromkeys(order, 0)
        styles = []
        for group in groups:
            styles.append(LineStyle(colours[group], _DASHES[seen[group]]))
            seen[group] += 1
        return styles
    if len(groups) <= _COLOURS:
        return [LineStyle(colour) for colour in _colours(blocks or [None] * len(groups))]
    n = len(palette)
    return [LineStyle(palette[i % n], _DASHES[(i + i // n) % len(_DASHES)]) for i in range(len(groups))]


def guest_styles(guests: int) -> list[LineStyle]:
    """The style of each line that a user adds."""
    return [LineStyle(GUEST_COLOUR, _DASHES[i % len(_DASHES)]) for i in range(guests)]


def _colours(blocks: Sequence[str | None]) -> list[str]:
    """A colour for each entry: the block's own for the first of its kind, the next free one for all others."""
    palette = _palette()
    own = {block: palette[BLOCK_COLOURS[block]] for block in blocks if block in BLOCK_COLOURS}
    free = iter([colour for colour in palette if colour not in own.values()])
    return [own.pop(block) if block in own else next(free) for block in blocks]


def ramp(steps: int) -> ListedColormap:
    """`steps` colours from dark to light for what has an order, such as blocks or the values of a sweep."""
    # The yellow end of the palette is left out: it hardly shows on white.
    viridis = sns.color_palette("viridis", as_cmap=True)
    return ListedColormap([viridis(t) for t in np.linspace(0.0, 0.88, max(steps, 1))], name="ramp")


def sweep_styles(values: int) -> list[LineStyle]:
    """The style of each value of a sweep, from dark to light."""
    colours = ramp(values)
    return [LineStyle(to_hex(colours(i))) for i in range(values)]


# ---------------------------------------------------------------------------------------------------
# Text


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width in inches of `text` set in `size` points."""
    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / 72


def wrap(text: str, width: float, size: float, *, bold: bool = False) -> list[str]:
    """`text` in lines of at most `width` inches, broken at spaces. A word that is longer has a line of its own."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if line and text_width(longer, size, bold=bold) > width:
            lines.append(line)
            line = word
        else:
            line = longer
    return [*lines, line] if line else lines
