"""From documents to a prepared folder, in a way that an interruption cannot spoil.

    <name>-<fingerprint>.partial/    origin.json, the vocabulary, the shards of both splits (`data.text.shards`)
    <name>-<fingerprint>/            the vocabulary, meta.json, and by packing
        chunks                       train.npy, eval.npy: (N, seq_len) sequences, none across two documents
        stream                       train-00000.npy, ...: the shards; train-lengths.npy; eval.npy: (N, seq_len)

Everything is written aside and renamed: each file of the partial folder, and in the end the folder itself. So
whatever is there is whole: a preparation that was stopped continues after its last shard, and a prepared folder is
complete. The caller holds the lock that keeps a second process out.

No more than a shard and a batch of documents is in memory at once, whatever the size of the text.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from reproduce.config import TextData
from reproduce.data.arrays import new_array, save_array
from reproduce.data.order import permutation
from reproduce.data.prepared import file_sha256
from reproduce.data.progress import LeftOut, Progress, described, to_meta
from reproduce.data.text.documents import SPLITS, Documents, Split, TextSource, TokenDocuments
from reproduce.data.text.shards import SPLIT_NAMES, Place, TokenShards, joined_lengths, shard_paths, write_shards
from reproduce.data.text.stream import LENGTHS_FILE, write_held_out
from reproduce.data.text.tokeniser import END_OF_DOCUMENT, TOKENISER_FILE, TokenisedText, token_dtype
from reproduce.errors import OfeError, SpecError
from reproduce.store.atomic import write_bytes, write_json
from reproduce.store.home import explain_os_errors
from reproduce.store.json_text import loads
from reproduce.store.regular import bytes_of
from reproduce.versions import installed_version


def prepare(
    source: TextSource, data: TextData, folder: Path, fingerprint: str, *, progress: Progress, offline: bool
) -> None:
    """Prepare `folder` from `source`, or finish what an interrupted preparation left.

    Raises:
        OfeError: the source cannot be read, has too little text, or the folder cannot be written.
    """
    partial = folder.with_name(folder.name + ".partial")
    if (partial / "meta.json").exists():
        _finish(partial, folder)
        return
    origin = partial / "origin.json"
    pinned = loads(bytes_of(origin)) if origin.exists() else None
    opened = source.open(pinned=pinned, offline=offline, progress=progress)
    with explain_os_errors(partial):
        partial.mkdir(parents=True, exist_ok=True)
    if pinned is None:
        write_json(origin, opened.origin)

    left = list(opened.left_out)
    for one in left:
        progress(str(one))
    documents = opened if isinstance(opened, TokenDocuments) else _tokenised(partial, opened, data, progress)
    vocabulary, content = documents.vocabulary
    if not (partial / vocabulary).exists():
        write_bytes(partial / vocabulary, content)
    stream = data.packing == "stream"
    end = documents.end_of_document if stream else None
    if stream and end is None:
        raise SpecError(
            f"the tokeniser of {data.source} has no token {END_OF_DOCUMENT} to put between the documents of a stream",
            hint="set data.packing=chunks",
        )
    limits: dict[Split, int | None] = {"train": data.train_tokens, "eval": None}
    places = {
        split: write_shards(partial, split, documents, end=end, limit=limits[split], progress=progress)
        for split in SPLITS
    }
    dtype = token_dtype(documents.vocab_size)
    packed = (_pack_stream if stream else _pack_chunks)(partial, data.seq_len, dtype)
    sequences = packed["sequences"]
    empty = _empty(partial, places)
    for one in empty:
        if one.count == one.of:
            raise OfeError(
                f"{documents.description}: all {one.of:,} {one.what} are without text",
                hint="look at what the source holds, or use another one",
            )
    passed_over = [*empty, *packed.pop("left_out", [])]
    for one in passed_over:
        progress(str(one))
    left += passed_over
    if sequences["train"] < 1 or sequences["eval"] < 2:
        raise OfeError(
            f"{documents.description} gives too few sequences of {data.seq_len:,} tokens:"
            f" {sequences['train']:,} to train on, {sequences['eval']:,} held out",
            hint="lower data.seq_len, or use a larger source",
        )
    names = [vocabulary, *packed.pop("files")]
    meta = {
        "schema": 1,
        "fingerprint": fingerprint,
        "source": data.source,
        "description": described(documents.description, left),
        "left_out": to_meta(left),
        "origin": documents.origin,
        "packing": data.packing,
        "seq_len": data.seq_len,
        "vocab_size": documents.vocab_size,
        "documents": {split: places[split].documents for split in SPLITS},
        **packed,
        **({"order": documents.order, "end_of_document": end} if stream else {}),
        "bytes": {name: (partial / name).stat().st_size for name in names},
        "sha256": {name: file_sha256(partial / name) for name in names},
        "python": platform.python_version(),
        "tokenizers": installed_version("tokenizers"),
    }
    write_json(partial / "meta.json", meta)
    _finish(partial, folder)


def _empty(partial: Path, places: Mapping[Split, Place]) -> list[LeftOut]:
    """How many documents of each split were read and had no tokens."""
    kept = {split: len(joined_lengths(shard_paths(partial, split))) for split in SPLITS}
    return [
        LeftOut(f"{SPLIT_NAMES[split]} documents", "without text", place.documents - kept[split], place.documents)
        for split, place in places.items()
        if place.documents > kept[split]
    ]


def _finish(partial: Path, folder: Path) -> None:
    """Drop what only an unfinished preparation needs, and put the folder in its place."""
    kept = {"meta.json", *loads(bytes_of(partial / "meta.json"))["sha256"]}
    with explain_os_errors(folder):
        for path in partial.iterdir():
            if path.name not in kept:
                path.unlink()
        partial.rename(folder)


def _tokenised(partial: Path, documents: Documents, data: TextData, progress: Progress) -> TokenDocuments:
    """The documents with the tokeniser of the source, or the one that an interrupted preparation has already saved."""
    saved = partial / TOKENISER_FILE
    if saved.exists():
        return TokenisedText(documents, Tokenizer.from_file(str(saved)))
    return TokenisedText(documents, documents.tokeniser(data.vocab_size, progress))


# ---------------------------------------------------------------------------------------------------
# Packings


def _pack_chunks(partial: Path, seq_len: int, dtype: np.dtype) -> dict[str, Any]:
    """Cut every document into exact sequences, its remainder dropped, as the authors' code does.

    Training sequences stay in the order of their documents, since every epoch permutes them. Held-out ones are
    permuted here, once, so that a few batches of them see many documents.
    """
    sequences, short = {}, []
    for split in SPLITS:
        paths = shard_paths(partial, split)
        shards = TokenShards.open(paths, joined_lengths(paths))
        count = int((shards.lengths // seq_len).sum())
        places = np.arange(count)
        if split == "eval":
            places[permutation(count, 0, 0)] = np.arange(count)
        with new_array(partial / f"{split}.npy", dtype, (count, seq_len)) as whole:
            done = 0
            for document in shards:
                pieces = document[: len(document) // seq_len * seq_len].reshape(-1, seq_len)
                whole[places[done : done + len(pieces)]] = pieces
                done += len(pieces)
        sequences[split] = count
        if fewer := int((shards.lengths < seq_len).sum()):
            reason = f"shorter than a sequence of {seq_len:,} tokens"
            short.append(LeftOut(f"{SPLIT_NAMES[split]} documents", reason, fewer, len(shards.lengths), lost=False))
    tokens = {split: count * seq_len for split, count in sequences.items()}
    return {"files": ["train.npy", "eval.npy"], "sequences": sequences, "tokens": tokens, "left_out": short}


def _pack_stream(partial: Path, seq_len: int, dtype: np.dtype) -> dict[str, Any]:
    """Keep the training shards as they are, and write the held-out documents as sequences."""
    train, held_out = (shard_paths(partial, split) for split in SPLITS)
    lengths, held_out_lengths = joined_lengths(train), joined_lengths(held_out)
    save_array(partial / LENGTHS_FILE, lengths)
    count = 0
    if len(held_out_lengths):
        count = write_held_out(partial / "eval.npy", TokenShards.open(held_out, held_out_lengths), dtype, seq_len)
    tokens = int(lengths.sum(dtype=np.int64))
    return {
        "files": [*(path.name for path in train), LENGTHS_FILE, "eval.npy"],
        "shards": len(train),
        "sequences": {"train": tokens // seq_len, "eval": count},
        "tokens": {"train": tokens, "eval": count * seq_len},
    }
