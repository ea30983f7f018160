"""The few marks that a block diagram needs: boxes, circles, arrows and words on a blank page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from reproduce.plots.theme import INK, QUIET

Look = Literal["linear", "function", "norm", "removed", "optional", "plain"]
_FILL: dict[Look, tuple[str, str, str]] = {
    # face, edge, line style
    "linear": ("#e3ecf7", "#3b6ea5", "-"),
    "function": ("#e4f3ea", "#2f7d57", "-"),
    "norm": ("#fde9c9", "#b35000", "-"),
    "removed": ("#ffffff", "#9a9a9a", "--"),
    "optional": ("#ffffff", "#7a5195", ":"),
    "plain": ("#f6f6f6", "#777777", "-"),
}
Point = tuple[float, float]


class Canvas:
    """A blank page. Places and lengths are in the units of `ax`, the size of words is in points."""

    def __init__(self, ax: Axes, size: float) -> None:
        self.ax = ax
        self.size = size

    def box(self, centre: Point, width: float, height: float, text: str, look: Look) -> None:
        """Draw a box with `text` in its middle; a removed part has a dashed edge and quiet words."""
        face, edge, dashes = _FILL[look]
        x, y = centre
        patch = FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=face,
            edgecolor=edge,
            linestyle=dashes,
            linewidth=1.0,
            zorder=3,
        )
        self.ax.add_patch(patch)
        self.words(centre, text, colour=QUIET if look == "removed" else INK)

    def circle(self, centre: Point, text: str, radius: float = 0.17, look: Look = "plain") -> None:
        """Draw a circle with `text` in it, as a sum, a product or a function has."""
        face, edge, dashes = _FILL[look]
        self.ax.add_patch(
            Circle(centre, radius, facecolor=face, edgecolor=edge, linestyle=dashes, linewidth=1.0, zorder=3)
        )
        self.words(centre, text)

    def path(self, points: Sequence[Point], *, arrow: bool = True, thick: bool = False) -> None:
        """Draw a line through `points`, behind the boxes, with an arrow head at its end."""
        # The head draws the last segment itself, so the line stops one point earlier.
        width, colour = (2.2, "#555555") if thick else (1.0, INK)
        xs, ys = zip(*points[: -1 if arrow else None], strict=True)
        if len(xs) > 1:
            self.ax.plot(xs, ys, color=colour, linewidth=width, solid_joinstyle="miter", zorder=1)
        if arrow:
            head = FancyArrowPatch(
                points[-2],
                points[-1],
                arrowstyle="-|>",
                mutation_scale=11 if thick else 8,
                color=colour,
                linewidth=width,
                shrinkA=0,
                shrinkB=0,
                zorder=1,
            )
            self.ax.add_patch(head)

    def words(
        self, at: Point, text: str, *, colour: str = INK, align: str = "center", scale: float = 1.0, bold: bool = False
    ) -> None:
        """Write words that are centred on a point, or that start (`align="left"`) or end (`"right"`) there."""
        self.ax.text(
            *at,
            text,
            size=self.size * scale,
            color=colour,
            ha=align,
            va="center",
            weight="bold" if bold else "normal",
            linespacing=1.15,
            zorder=4,
        )
