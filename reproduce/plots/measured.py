"""Kurtosis of measured models, with and without the first positions (`ofe measure --plot`).

Several models are compared over their layers. One model at three steps of its training or more is drawn over these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reproduce.plots.export import image_bytes, settle
from reproduce.plots.theme import series_styles, sweep_styles, theme

_COLUMNS = {"all": "-", "skipped": ":"}
"""Column -> dashes of its lines."""
_MOST_COLOURS = 4
"""Most models that have colours of their own. More are taken for the order of a training, from dark to light."""


_LEAST_STEPS = 3
"""Least steps of one model that are drawn as curves over training."""


def draw_readings(readings: Sequence[dict[str, Any]], kind: str) -> bytes:
    """The content of an image file of the format `kind`, from readings as `ofe measure --json` gives them."""
    steps = {reading.get("step") for reading in readings}
    trained = len({reading["model"] for reading in readings}) == 1 and len(steps) >= _LEAST_STEPS and None not in steps
    with theme():
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.add_subplot()
        skipped = max(reading["skip_first"] for reading in readings)
        (_over_steps if trained else _over_layers)(axes, readings)
        axes.set_yscale("log")
        axes.set_ylabel("kurtosis, Eq (1)")
        title = f"Outlier features of {readings[0]['model']}" if trained else "Outlier features by layer"
        if skipped:
            title += f": all positions, and (dotted) without the first{'' if skipped == 1 else f' {skipped}'}"
        axes.set_title(title)
        axes.legend(ncols=2 if len(axes.get_lines()) > 2 * _MOST_COLOURS else 1, title="layer" if trained else None)
        settle(figure)
        return image_bytes(figure, kind)


def _over_layers(axes: Axes, readings: Sequence[dict[str, Any]]) -> None:
    """A line for each model over its layers, each at its number, and the unembedding's input after the last block."""
    many = len(readings) > _MOST_COLOURS
    styles = sweep_styles(len(readings)) if many else series_styles(list(range(len(readings))))
    for reading, style in zip(readings, styles, strict=True):
        layers = _stream(reading)
        for column, dashes in _COLUMNS.items():
            values = [float(layer[column].get("kurtosis", "nan")) for layer in layers]
            label = _name(reading) if column == "all" else None
            axes.plot(range(1, len(layers) + 1), values, dashes, color=style.colour, label=label)
    axes.set_xlabel("input of block, and of the unembedding")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _over_steps(axes: Axes, readings: Sequence[dict[str, Any]]) -> None:
    """A line for each layer over the steps of the training."""
    ordered = sorted(readings, key=lambda reading: reading["step"])
    names = [layer["layer"] for layer in _stream(ordered[0])]
    for index, (name, style) in enumerate(zip(names, sweep_styles(len(names)), strict=True)):
        for column, dashes in _COLUMNS.items():
            values = [float(_stream(reading)[index][column].get("kurtosis", "nan")) for reading in ordered]
            label = name if column == "all" else None
            axes.plot([reading["step"] for reading in ordered], values, dashes, color=style.colour, label=label)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlabel("training step")


def _stream(reading: dict[str, Any]) -> list[dict[str, Any]]:
    return [layer for layer in reading["layers"] if layer["point"] in ("stream", "residual", "attention-input")]


def _name(reading: dict[str, Any]) -> str:
    extra = reading.get("revision") or (f"step {reading['step']}" if reading.get("step") is not None else "")
    return f"{reading['model']} {extra}".strip()
