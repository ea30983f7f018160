"""Where the numbers go in: registered sources of text and images, prepared once and read as exact batches.

    SOURCES                     what `data.source` may name
    fingerprint(data)           identity of text, tokeniser and packing, or of images and whitening; cheap, no download
    prepared_folder(data)       where the prepared data lie, whether or not they have been prepared
    open_data(data)             the prepared data, prepared now where they were not; or, when their kind is known,
    open_text(data)             the prepared corpus
    open_images(data)           the prepared images

    sources/    the registry of sources, and a module for each source: what is read, from where, in which order
    text/       how text is tokenised, written to shards, packed into sequences and read
    images/     sets of images, how images are decoded, and how inputs are normalised
    columns     which column of a data set of rows is the text
    progress    what is told while data are prepared, and the count of what was left out
    prepared    folders of prepared data: their names, the lock that guards them, the check of their files
    arrays      arrays written whole or not at all
    order       the order in which examples are read, a function of (seed, step)
    files, hub  what sources share: files of the user's own, and the Hugging Face hub

Importing this package loads none of numpy, tokenizers, datasets and pyarrow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from reproduce.config import DataConfig, ImageData
from reproduce.data.sources.registry import SOURCES, SourceInfo, find_source

if TYPE_CHECKING:
    from pathlib import Path

    from reproduce.data.images.opening import Images, open_images
    from reproduce.data.progress import Progress
    from reproduce.data.text.corpus import TextCorpus
    from reproduce.data.text.opening import open_text

__all__ = [
    "SOURCES",
    "Images",
    "SourceInfo",
    "TextCorpus",
    "find_source",
    "fingerprint",
    "held_out_examples",
    "open_data",
    "open_images",
    "open_text",
    "prepared_folder",
]

_HOMES = {
    "Images": "images.opening",
    "TextCorpus": "text.corpus",
    "open_images": "images.opening",
    "open_text": "text.opening",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def fingerprint(data: DataConfig) -> str:
    """16 hexadecimal digits that identify the numbers `data` describes: cheap, no download, nothing written.

    Raises:
        OfeError: the source is not there, or `data` asks for what it does not have.
    """
    from reproduce.data.images.opening import image_fingerprint
    from reproduce.data.text.opening import text_fingerprint

    return image_fingerprint(data) if isinstance(data, ImageData) else text_fingerprint(data)


def prepared_folder(data: DataConfig) -> Path:
    """The folder of the prepared data, which exists if and only if they have been prepared."""
    from reproduce.data.prepared import folder_of

    return folder_of(data, data.fingerprint or fingerprint(data))


def open_data(data: DataConfig, *, progress: Progress | None = None, offline: bool = False) -> TextCorpus | Images:
    """The data, prepared first where they were not; see `open_text` and `open_images`.

    Raises:
        OfeError: they cannot be had, or were damaged after they were prepared.
    """
    from reproduce.data.images.opening import open_images
    from reproduce.data.text.opening import open_text

    if isinstance(data, ImageData):
        return open_images(data, progress=progress, offline=offline)
    return open_text(data, progress=progress, offline=offline)


def held_out_examples(opened: TextCorpus | Images) -> int:
    """How many sequences or images are held out for probes."""
    from reproduce.data.images.opening import Images

    if isinstance(opened, Images):
        return opened.set.test_images
    return opened.eval_sequences - opened.eval_sequences // 2  # the first half serves evaluation
