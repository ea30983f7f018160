"""Where the numbers go in: registered sources of text, prepared once and read as exact sequences.

    SOURCES                     what `data.source` may name
    fingerprint(data)           identity of text, tokeniser and packing; cheap, no download, no training
    open_text(data)             the prepared corpus, prepared now where it was not
    prepared_folder(data)       where that corpus lies, whether or not it has been prepared

Importing this package loads none of numpy, tokenizers, datasets and pyarrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reproduce.data.sources import SOURCES, SourceInfo, find_source

if TYPE_CHECKING:
    from reproduce.data.corpus import TextCorpus
    from reproduce.data.text import fingerprint, open_text, prepared_folder

__all__ = ["SOURCES", "SourceInfo", "TextCorpus", "find_source", "fingerprint", "open_text", "prepared_folder"]

_HOMES = {"TextCorpus": "corpus", "fingerprint": "text", "open_text": "text", "prepared_folder": "text"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
