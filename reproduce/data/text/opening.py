"""Text data from its configuration: its fingerprint, and the prepared corpus behind it.

    OFE_HOME/data/<source>-<fingerprint>/      prepared once, then only read; see `reproduce.data.text.prepare`
    OFE_HOME/data/<source>-<fingerprint>.lock  held by the process that prepares it

Nothing is written when the folder is already there, so a prepared home may be read-only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reproduce.config import TextData
from reproduce.data.columns import TEXT_COLUMNS
from reproduce.data.prepared import folder_of, hash_identity, prepare_once, refuse_other_data, verified_meta
from reproduce.data.progress import Progress
from reproduce.data.sources.registry import find_source, make_source
from reproduce.data.text.documents import TextSource
from reproduce.errors import SpecError
from reproduce.store.json_text import loads
from reproduce.store.regular import bytes_of

if TYPE_CHECKING:
    from pathlib import Path

    from reproduce.data.text.corpus import TextCorpus

PREPARATION_VERSION = 1
"""Raised whenever the same text would become other sequences: it changes every fingerprint."""


def text_source(data: TextData) -> TextSource:
    """The source that `data` names.

    Raises:
        SpecError: it is not registered, or it lacks a path, or is given one or a dataset that it does not read.
        OfeError: what it reads is not there.
    """
    info = find_source(data.source, "text")
    for name in ("dataset", "subset", "column"):
        if getattr(data, name) is not None and name not in info.hub_fields:
            hint = f"drop data.{name}, or set data.source=hub"
            raise SpecError(f"the source {info.name} takes no data.{name}", hint=hint)
    source: TextSource = make_source(info, data)
    return source


def text_fingerprint(data: TextData) -> str:
    """16 hexadecimal digits that identify the sequences `data` describes: text, tokeniser and packing.

    Local text is hashed (0.1 s for the standard library), text on a hub is taken at its name and revision. Where a
    folder lies plays no part.

    Raises:
        OfeError: as `text_source`.
    """
    return _fingerprint(text_source(data), data)


def _fingerprint(source: TextSource, data: TextData) -> str:
    identity = {
        "version": PREPARATION_VERSION,
        "source": source.identity(),
        "vocab_size": data.vocab_size,
        "seq_len": data.seq_len,
        "packing": data.packing,
    }
    if data.train_tokens is not None:
        identity["train_tokens"] = data.train_tokens
    return hash_identity(identity)


def open_text(data: TextData, *, progress: Progress | None = None, offline: bool = False) -> TextCorpus:
    """The corpus of `data`, prepared first where it was not.

    Where `data` carries a fingerprint, only that text will do: found prepared, or reached from here.

    Args:
        progress: called with one line of text a step of the preparation.
        offline: never use the network; without it, `HF_HUB_OFFLINE` has the same effect.

    Raises:
        OfeError: as `text_source`; or the text here is not that of the fingerprint, cannot be had, is too short,
            cannot be written, or was damaged after it was prepared.
    """
    report = progress or (lambda line: None)
    if data.fingerprint and (known := folder_of(data, data.fingerprint)).is_dir() and not doubt(known, data):
        return open_corpus(known)
    source = text_source(data)
    identity = _fingerprint(source, data)
    refuse_other_data(data, identity)
    folder = folder_of(data, identity)

    def prepare_folder() -> None:
        from reproduce.data.text.prepare import prepare

        prepare(source, data, folder, identity, progress=report, offline=offline)

    prepare_once(folder, prepare_folder, report, doubt=lambda: doubt(folder, data))
    return open_corpus(folder)


def doubt(folder: Path, data: TextData) -> str | None:
    """Why a prepared folder may hold another column than the text; None where there is no reason to think so.

    Before what was left out was counted, the column was judged by the first row alone, in which the text may be null.
    """
    if "column" not in find_source(data.source, "text").hub_fields:
        return None
    try:
        meta = loads(bytes_of(folder / "meta.json"))
        column = meta["origin"]["column"]
    except (OSError, ValueError, KeyError):
        return None  # what is wrong is said when the folder is opened
    if "left_out" in meta or column == data.column or column.lower() in TEXT_COLUMNS:
        return None
    return f"an earlier version read the column {column}, which may not be the text"


def open_corpus(folder: Path) -> TextCorpus:
    """The corpus in a prepared folder, in the packing it was prepared for.

    Raises:
        OfeError: a file of the folder is missing, or is not what was written.
    """
    from reproduce.data.text.corpus import ChunkCorpus
    from reproduce.data.text.stream import StreamCorpus

    meta = verified_meta(folder)
    return StreamCorpus(folder, meta) if meta["packing"] == "stream" else ChunkCorpus(folder, meta)
