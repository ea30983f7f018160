"""Pictures of figures as they stand in a page: smaller than their files, and hardly different to look at.

A picture of a figure is lines and text on white, so that most of its bytes are the shades at the edges of lines and
letters. The colours of lines and text are kept as they are, and the shades between them are rounded to few.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SOLID, SOLID_APART = 100, 24.0
"""Colours of lines: so many of their pixels have the same colour to their right. The number after it is the smallest
distance in RGB from all colours kept so far; the colours of nine layers are further apart."""
OFTEN, OFTEN_APART = 150, 40.0
"""Colours of letters, whose strokes are a pixel wide: so many pixels have them."""
SHADES_APART = 72.0
"""All other colours, which are shades at edges."""


def data_address(path: Path) -> str:
    """A picture as a data address, in lossless WebP with few shades."""
    import numpy as np
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(path) as image:
        shown = few_shades(np.asarray(image.convert("RGB")))
    Image.fromarray(shown).save(buffer, "WEBP", lossless=True, method=6)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def few_shades(pixels: np.ndarray) -> np.ndarray:
    """A picture (height, width, 3) in its solid colours and a few shades: every pixel takes the nearest of them.

    Solid colours are chosen first, then those of letters, then shades, and among each the most frequent first.
    """
    import numpy as np

    codes = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    colours, of_pixel, often = np.unique(codes, return_inverse=True, return_counts=True)
    of_pixel = of_pixel.reshape(codes.shape)
    inside = of_pixel[:, :-1][of_pixel[:, :-1] == of_pixel[:, 1:]]
    solid = np.bincount(inside, minlength=len(colours)) >= SOLID
    rgb = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1).astype(float)
    kept: list[int] = []
    for chosen, distance in ((solid, SOLID_APART), (often >= OFTEN, OFTEN_APART), (often > 0, SHADES_APART)):
        for colour in np.flatnonzero(chosen)[np.argsort(-often[chosen], kind="stable")]:
            if not kept or np.linalg.norm(rgb[kept] - rgb[colour], axis=1).min() >= distance:
                kept.append(int(colour))
    nearest = np.linalg.norm(rgb[:, None] - rgb[kept], axis=2).argmin(axis=1)
    return rgb[np.array(kept)[nearest]].astype(np.uint8)[of_pixel]
