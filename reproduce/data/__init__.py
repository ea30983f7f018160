"""Where the numbers go in: registered sources of text and images, prepared once and read as exact batches.

    SOURCES                     what `data.source` may name
    fingerprint(data)           identity of text, tokeniser and packing, or of images and whitening; cheap, no download
    prepared_folder(data)       where the prepared data lie, whether or not they have been prepared
    open_data(data)             the prepared data, prepared now where they were not; or, when their kind is known,
    open_text(data)             the prepared corpus
    open_images(data)           the prepared images

Importing this package loads none of numpy, tokenizers, datasets and pyarrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reproduce.data.sources.registry import SOURCES, SourceInfo, find_source

if TYPE_CHECKING:
    from reproduce.data.images.opening import Images, open_images
    from reproduce.data.kinds import fingerprint, open_data, prepared_folder
    from reproduce.data.text.corpus import TextCorpus
    from reproduce.data.text.opening import open_text

__all__ = [
    "SOURCES",
    "Images",
    "SourceInfo",
    "TextCorpus",
    "find_source",
    "fingerprint",
    "open_data",
    "open_images",
    "open_text",
    "prepared_folder",
]

_HOMES = {
    "Images": "images.opening",
    "TextCorpus": "text.corpus",
    "fingerprint": "kinds",
    "open_data": "kinds",
    "open_images": "images.opening",
    "open_text": "text.opening",
    "prepared_folder": "kinds",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
