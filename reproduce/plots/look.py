"""What a user may choose of a figure beyond its spec: type size, layers, smoothing and the scale of the y axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reproduce.errors import OfeError, SpecError
from reproduce.specs.schema import Axis, LinePlot

if TYPE_CHECKING:
    from reproduce.specs.runs import Resolved

Style = Literal["paper", "notebook", "talk"]
_SHRINK: dict[Style, float] = {"paper": 1.0, "notebook": 0.85, "talk": 0.7}
"""Size of a panel beside that of style paper. Type keeps its size, so that it is larger beside a smaller panel."""
_WIDTH: dict[Style, float] = {"paper": 1.0, "notebook": 1.2, "talk": 1.6}
"""Width of lines beside that of style paper."""


@dataclass(frozen=True)
class Look:
    """The choices of one call of `ofe plot`."""

    style: Style = "paper"
    layers: tuple[int | Literal["unembed"], ...] = ()
    """The layers shown; those of the spec if empty."""
    smooth: int | None = None
    """Length in steps of a running mean; as the metric needs if None."""
    y_scale: Literal["linear", "log"] | None = None
    """Scale of every y axis; that of the spec if None."""

    @property
    def shrink(self) -> float:
        """Size of a panel beside its usual one."""
        return _SHRINK[self.style]

    @property
    def line_width(self) -> float:
        """Width of lines beside the usual one."""
        return _WIDTH[self.style]

    @property
    def dots(self) -> float:
        """Dots per inch beside the usual number, so that a smaller page has as many dots."""
        return 1 / self.shrink

    def words(self) -> list[str]:
        """The choices that differ from the spec, such as `style=talk`: they name the folder of the picture."""
        said = {
            "style": self.style if self.style != "paper" else "",
            "layers": "+".join(map(str, self.layers)),
            "smooth": "" if self.smooth is None else str(self.smooth),
            "y": self.y_scale or "",
        }
        return [f"{name}={value}" for name, value in said.items() if value]

    def plot_of(self, resolved: Resolved) -> LinePlot:
        """The plot of a figure with these choices.

        Where there are guests and nothing tells runs apart, each run gets a panel.

        Raises:
            OfeError: the figure is no line plot.
            SpecError: a layer is not in the models, or the figure has no room for another run.
        """
        plot = resolved.experiment.plot
        if not isinstance(plot, LinePlot):
            raise OfeError(
                f"{resolved.experiment.id} is a {plot.kind}, and --overlay, --add, --layers, --smooth, --logy and "
                "--liny are for curves",
                hint="leave them out, or name a figure with curves",
                exit_code=2,
            )
        changes: dict[str, object] = {}
        if self.layers:
            _check_layers(self.layers, resolved)
            changes["layers"] = list(self.layers)
            if plot.series != "layer" and "layer" not in plot.panels and len(self.layers) > 1:
                changes["panels"] = [*plot.panels, "layer"]
        if self.y_scale:
            changes["y"] = [Axis(**{**dict(axis), "scale": self.y_scale}) for axis in plot.y]
        panels = changes.get("panels", plot.panels)
        assert isinstance(panels, Sequence)
        if resolved.guests and plot.series != "run" and "run" not in panels:
            changes["panels"] = panels = [*panels, "run"]
        if len(panels) > 2:
            raise SpecError(
                f"{resolved.experiment.id} has no room for that: its panels would differ in {', '.join(panels)}",
                hint=f"write a figure of your own: ofe new mine.yaml --from {resolved.experiment.id}",
            )
        return plot.model_copy(update=changes)


def _check_layers(layers: Sequence[int | str], resolved: Resolved) -> None:
    deepest = max((run.training.model.layers for run in resolved.lines if run.training is not None), default=0)
    beyond = [layer for layer in layers if isinstance(layer, int) and not 1 <= layer <= deepest]
    if beyond and deepest:
        raise SpecError(
            f"{resolved.experiment.id} has no layer {beyond[0]} at {resolved.scale} scale",
            hint=f"its layers are 1 to {deepest} and unembed",
        )


def parse_layers(text: str | None) -> tuple[int | Literal["unembed"], ...]:
    """The layers in `2,5,unembed`.

    Raises:
        OfeError: one of them is neither a number nor `unembed` (exit code 2).
    """
    layers: list[int | Literal["unembed"]] = []
    for word in filter(None, (part.strip() for part in (text or "").split(","))):
        if word == "unembed":
            layers.append("unembed")
        elif word.isascii() and word.isdecimal():
            layers.append(int(word))
        else:
            raise OfeError(f"there is no layer {word}", hint="write numbers and unembed: --layers 2,5", exit_code=2)
    return tuple(dict.fromkeys(layers))
