"""Kurtosis over the layers of measured models, with and without the first positions (`ofe measure --plot`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reproduce.plots.export import image_bytes, settle
from reproduce.plots.theme import series_styles, sweep_styles, theme

_MOST_COLOURS = 4
"""Most models that have colours of their own. More are taken for the order of a training, from dark to light."""


def draw_readings(readings: Sequence[dict[str, Any]], kind: str) -> bytes:
    """The content of an image file of the format `kind`, from readings as `ofe measure --json` gives them.

    A model has a line over its layers, and a dotted one without the first positions. Layers are drawn at their number,
    and the input of the unembedding after the last block.
    """
    with theme():
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.add_subplot()
        many = len(readings) > _MOST_COLOURS
        styles = sweep_styles(len(readings)) if many else series_styles(list(range(len(readings))))
        skipped = 0
        for reading, style in zip(readings, styles, strict=True):
            layers = [layer for layer in reading["layers"] if layer["point"] in ("stream", "residual")]
            place = list(range(1, len(layers) + 1))
            for column, dashes in (("all", "-"), ("skipped", ":")):
                values = [float(layer[column].get("kurtosis", "nan")) for layer in layers]
                if not all(value != value for value in values):
                    label = _name(reading) if column == "all" else None
                    axes.plot(place, values, dashes, color=style.colour, label=label)
                    skipped = max(skipped, reading["skip_first"] if column == "skipped" else 0)
        axes.set_yscale("log")
        axes.set_ylabel("kurtosis, Eq (1)")
        axes.set_xlabel("input of block, and of the unembedding")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        title = "Outlier features by layer"
        if skipped:
            title += f": all positions, and (dotted) without the first{'' if skipped == 1 else f' {skipped}'}"
        axes.set_title(title)
        axes.legend()
        settle(figure)
        return image_bytes(figure, kind)


def _name(reading: dict[str, Any]) -> str:
    extra = reading.get("revision") or (f"step {reading['step']}" if reading.get("step") is not None else "")
    return f"{reading['model']} {extra}".strip()
