"""Figures as files. Equal data give equal bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

_METADATA: dict[str, dict[str, Any]] = {
    # Dates and versions of the writer would make equal figures differ; None leaves them out.
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def settle(figure: Figure) -> None:
    """Lay the figure out once and for all.

    The solver of the layout is exact only to about 1e-15, and its error differs from call to call. That is enough for
    another pixel or another SVG id, so positions are rounded to a thousandth of a pixel and kept.
    """
    _take_texts_as_written(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for part in figure.subfigs:
        part.bbox_relative.set_points(part.bbox_relative.get_points().round(6))
        for ax in part.axes:
            ax.set_position(Bbox(ax.get_position().get_points().round(6)))


def _take_texts_as_written(figure: Figure) -> None:
    """Show a dollar sign in a title or label as one. Between two of them matplotlib would read TeX, or fail to.

    The axes' own numbers, which matplotlib writes in TeX, stay as they are.
    """
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if "$" in text.get_text() and r"\mathdefault" not in text.get_text():
            text.set_parse_math(False)


def image_bytes(figure: Figure, kind: str) -> bytes:
    """The content of an image file.

    Args:
        figure: a figure that `settle` has laid out.
        kind: one of `IMAGE_FORMATS`.

    Call inside `theme()`, which fixes the resolution and the ids in SVG.
    """
    if kind == "png":
        return _png(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=_METADATA[kind])
    return buffer.getvalue()


def _png(figure: Figure) -> bytes:
    """The picture in 256 colours. It takes a third of the space; the repository carries one for every figure."""
    # `savefig` would draw everything twice, the first time to lay it out, which `settle` has done.
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    rgb = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    # One round of k-means: median cut alone turns the blue of some lines green.
    small = rgb.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    dots = round(figure.get_dpi())
    small.save(buffer, "PNG", optimize=True, dpi=(dots, dots))
    return buffer.getvalue()
