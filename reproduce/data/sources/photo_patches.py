"""Images that every installation carries: patches of the two photographs that scikit-learn ships, in ten classes.

    photographs   china.jpg and flower.jpg, 427 x 640 pixels each
    classes       each photograph is cut into 5 upright strips of 128 columns; a strip is a class, 10 in all
    bands         across each photograph, again and again from the top: 70 rows to train on, 36 rows held out
    a patch       side x side pixels inside one strip and one band, mirrored half the time

A class is thus to be told from its colours and textures at any height of its strip, and no pixel of a held-out patch
is in any training patch. Training patches are drawn afresh as a function of (seed, step): about 300,000 different ones
at side 32, so that an epoch of `train_images` never repeats. The 10,000 held-out patches are drawn once and for all.

It stands in for CIFAR-10, of the same shape. What it is not is a set of objects: classes are places of two pictures.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.config import ImageData
from reproduce.data.files import digest
from reproduce.data.progress import Progress
from reproduce.errors import OfeError, SpecError
from reproduce.models.size import CHANNELS

if TYPE_CHECKING:
    from reproduce.data.images.patches import Patches

NAMES = ("china.jpg", "flower.jpg")
HEIGHT, WIDTH = 427, 640
STRIPS = 5
CLASSES = STRIPS * len(NAMES)
TRAIN_ROWS, TEST_ROWS = 70, 36
DRAWING_VERSION = 1
"""Raised whenever the same photographs would give other patches: it is part of the fingerprint."""


class PhotoPatches:
    """The source, as `ImageData` configures it.

    Raises:
        SpecError: another number of classes is asked for, patches that fit into no band, or an epoch of unknown length.
    """

    def __init__(self, data: ImageData) -> None:
        if data.classes != CLASSES:
            raise SpecError(
                f"photo-patches has {CLASSES} classes, not {data.classes}", hint=f"set data.classes={CLASSES}"
            )
        if data.side > TEST_ROWS:
            raise SpecError(
                f"photo-patches has no patches of side {data.side}", hint=f"set data.side to at most {TEST_ROWS}"
            )
        if data.train_images is None:
            raise SpecError(
                "nothing says how many patches make an epoch", hint="set data.train_images, 50000 as CIFAR-10 has"
            )
        self.side, self.train_images = data.side, data.train_images

    def identity(self) -> Mapping[str, Any]:
        return {"source": "photo-patches", "files": digest(photographs()), "drawing": DRAWING_VERSION}

    def prepare(self, folder: Path, *, progress: Progress, offline: bool) -> Mapping[str, Any]:
        """Write `photographs.npy`, (2, 427, 640, 3) uint8: what a decoder makes of them then stays the same."""
        import numpy as np
        from PIL import Image

        from reproduce.data.arrays import save_array

        pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in photographs().values()])
        if pixels.shape != (len(NAMES), HEIGHT, WIDTH, CHANNELS):
            raise OfeError(f"scikit-learn's photographs are not {WIDTH} x {HEIGHT} pixels", hint="install it again")
        save_array(folder / "photographs.npy", pixels)
        return {"description": "patches of two photographs"}

    def open(self, folder: Path, meta: Mapping[str, Any]) -> Patches:
        import numpy as np

        from reproduce.data.images.patches import Patches

        photographs = np.load(folder / "photographs.npy")
        rows = (TRAIN_ROWS, TEST_ROWS)
        return Patches(meta["description"], photographs, self.side, self.train_images, strips=STRIPS, rows=rows)


def photographs() -> dict[str, Path]:
    """Files of the two photographs by name, found without importing scikit-learn.

    Raises:
        OfeError: they are not there.
    """
    found = importlib.util.find_spec("sklearn")
    folder = Path(found.origin).parent / "datasets" / "images" if found and found.origin else Path()
    files = {name: folder / name for name in NAMES}
    if not all(path.is_file() for path in files.values()):
        raise OfeError("scikit-learn's photographs are missing", hint="install scikit-learn again")
    return files
