"""Pictures in the page keep every colour that a line or a text has."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from reproduce.plots.theme import BAD, GOOD, HALF, INK, WARN
from reproduce.report.pictures import data_address, few_shades

LINES = [(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (170, 220, 50), (122, 28, 28), (34, 34, 34)]
"""Colours of five layers, of the unembedding, and of text."""


def picture() -> Image.Image:
    """Lines that cross, as matplotlib draws them: three pixels wide, with shades at their edges."""
    large = Image.new("RGB", (1600, 1200), "white")
    draw = ImageDraw.Draw(large)
    for number, colour in enumerate(LINES):
        draw.line([(40, 80 + 150 * number), (1560, 1000 - 90 * number)], fill=colour, width=14)
    return large.resize((400, 300), Image.Resampling.BOX)


def test_lines_keep_their_colours_and_edges_lose_most_of_their_shades() -> None:
    before = np.asarray(picture())
    after = few_shades(before)
    there = {tuple(colour) for colour in after.reshape(-1, 3).tolist()}
    assert there >= {(255, 255, 255), *LINES}
    assert len(there) < len(np.unique(before.reshape(-1, 3), axis=0)) / 10
    for colour in LINES:
        solid = (before == colour).all(axis=2)
        assert solid.sum() > 300
        assert (after[solid] == colour).all()


def test_no_pixel_moves_far() -> None:
    before = np.asarray(picture()).astype(float)
    moved = np.linalg.norm(few_shades(before.astype(np.uint8)) - before, axis=2)
    assert moved.max() <= 72


def test_verdicts_below_a_shipped_picture_keep_the_colours_that_tell_them_apart() -> None:
    with Image.open(Path(__file__).parents[2] / "figures" / "laptop" / "fig5.png") as image:
        after = few_shades(np.asarray(image.convert("RGB")))
    there = np.unique(after.reshape(-1, 3), axis=0).astype(float)
    for name in (GOOD, HALF, BAD, WARN, INK):  # the file's own 256 colours are a few levels off these already
        colour = np.array(list(bytes.fromhex(name.removeprefix("#"))), dtype=float)
        assert np.linalg.norm(there - colour, axis=1).min() < 12, name


def test_a_shipped_picture_is_smaller_than_its_file_and_opens() -> None:
    path = Path(__file__).parents[2] / "figures" / "laptop" / "fig5.png"
    address = data_address(path)
    content = base64.b64decode(address.removeprefix("data:image/webp;base64,"))
    with Image.open(path) as before, Image.open(io.BytesIO(content)) as after:
        assert after.size == before.size
        assert after.format == "WEBP"
    assert len(content) < 0.8 * path.stat().st_size
