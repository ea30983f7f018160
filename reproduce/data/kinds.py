"""Text or images: what every kind of data can be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reproduce.config import DataConfig, ImageData
from reproduce.data.images.opening import image_fingerprint, image_folder, open_images
from reproduce.data.text.documents import Progress
from reproduce.data.text.opening import open_text, text_fingerprint, text_folder

if TYPE_CHECKING:
    from pathlib import Path

    from reproduce.data.images.opening import Images
    from reproduce.data.text.corpus import TextCorpus


def fingerprint(data: DataConfig) -> str:
    """16 hexadecimal digits that identify the numbers `data` describes: cheap, no download, nothing written.

    Raises:
        OfeError: the source is not there, or `data` asks for what it does not have.
    """
    return image_fingerprint(data) if isinstance(data, ImageData) else text_fingerprint(data)


def prepared_folder(data: DataConfig) -> Path:
    """Where the prepared data lie; it exists if and only if they have been prepared."""
    return image_folder(data) if isinstance(data, ImageData) else text_folder(data)


def open_data(data: DataConfig, *, progress: Progress | None = None, offline: bool = False) -> TextCorpus | Images:
    """The data, prepared first where they were not; see `open_text` and `open_images`.

    Raises:
        OfeError: they cannot be had, or were damaged after they were prepared.
    """
    if isinstance(data, ImageData):
        return open_images(data, progress=progress, offline=offline)
    return open_text(data, progress=progress, offline=offline)
