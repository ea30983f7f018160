"""From documents to a prepared folder, in a way that an interruption cannot spoil.

    <name>-<fingerprint>.partial/     origin.json, tokenizer.json, train-00000.npy, train-00001.npy, ..., eval-00000.npy
    <name>-<fingerprint>/             tokenizer.json, train.npy, eval.npy, meta.json

Everything is written aside and renamed: each file of the partial folder, and in the end the folder itself. So
whatever is there is whole: a preparation that was stopped continues after its last shard, and a prepared folder is
complete. The caller holds the lock that keeps a second process out.
"""

from __future__ import annotations

import itertools
import json
import math
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from reproduce.config import TextData
from reproduce.data.corpus import file_sha256, permutation
from reproduce.data.documents import SPLITS, Documents, Progress, Split, TextSource
from reproduce.data.tokeniser import chunk
from reproduce.errors import OfeError
from reproduce.store.atomic import replacing, write_json, write_text
from reproduce.store.home import explain_os_errors

SHARD_DOCUMENTS = 5_000
"""Documents after which the work so far is safe."""
_PREPARED = ("train.npy", "eval.npy", "tokenizer.json")
"""Files of a prepared folder whose checksums meta.json holds."""
_BATCH_DOCUMENTS = 64
"""Documents tokenised together, in parallel; bounds the memory that their encodings take."""


def prepare(
    source: TextSource, data: TextData, folder: Path, fingerprint: str, *, progress: Progress, offline: bool
) -> None:
    """Prepare `folder` from `source`, or finish what an interrupted preparation left.

    Raises:
        OfeError: the source cannot be read, has too little text, or the folder cannot be written.
    """
    partial = folder.with_name(folder.name + ".partial")
    origin = partial / "origin.json"
    pinned = json.loads(origin.read_bytes()) if origin.exists() else None
    documents = source.open(pinned=pinned, offline=offline, progress=progress)
    with explain_os_errors(partial):
        partial.mkdir(parents=True, exist_ok=True)
    if pinned is None:
        write_json(origin, documents.origin)

    tokenizer = _tokeniser(partial, documents, data.vocab_size, progress)
    sequences = {}
    for split in SPLITS:
        shards = _write_shards(partial, split, documents, tokenizer, data.seq_len, progress)
        sequences[split] = _merge(partial, split, shards)
    if sequences["train"] < 1 or sequences["eval"] < 2:
        raise OfeError(
            f"{documents.description} gives too few sequences of {data.seq_len:,} tokens:"
            f" {sequences['train']:,} to train on, {sequences['eval']:,} held out",
            hint="lower data.seq_len, or use a larger source",
        )
    meta = {
        "schema": 1,
        "fingerprint": fingerprint,
        "source": data.source,
        "description": documents.description,
        "origin": documents.origin,
        "packing": data.packing,
        "seq_len": data.seq_len,
        "vocab_size": tokenizer.get_vocab_size(),
        "documents": {split: documents.count(split) for split in SPLITS},
        "sequences": sequences,
        "tokens": {split: count * data.seq_len for split, count in sequences.items()},
        "bytes": {name: (partial / name).stat().st_size for name in _PREPARED},
        "sha256": {name: file_sha256(partial / name) for name in _PREPARED},
        "python": platform.python_version(),
        "tokenizers": version("tokenizers"),
    }
    write_json(partial / "meta.json", meta)
    with explain_os_errors(folder):
        for leftover in set(partial.iterdir()) - {partial / name for name in (*_PREPARED, "meta.json")}:
            leftover.unlink()
        partial.rename(folder)


def _tokeniser(partial: Path, documents: Documents, vocab_size: int, progress: Progress) -> Tokenizer:
    """The tokeniser of the source, or the one that an interrupted preparation has already saved."""
    saved = partial / "tokenizer.json"
    if not saved.exists():
        write_text(saved, documents.tokeniser(vocab_size, progress).to_str(pretty=True))
    return Tokenizer.from_file(str(saved))


def _write_shards(
    partial: Path, split: Split, documents: Documents, tokenizer: Tokenizer, seq_len: int, progress: Progress
) -> list[Path]:
    """Tokenise a split, shard by shard, starting after the shards that are already there."""
    count = documents.count(split)
    shards = [partial / f"{split}-{number:05}.npy" for number in range(math.ceil(count / SHARD_DOCUMENTS))]
    missing = list(itertools.dropwhile(Path.exists, shards))
    done = (len(shards) - len(missing)) * SHARD_DOCUMENTS
    texts = documents.read(split, done)
    for shard in missing:
        shard_texts = itertools.islice(texts, SHARD_DOCUMENTS)
        pieces = []
        while batch := list(itertools.islice(shard_texts, _BATCH_DOCUMENTS)):
            pieces.append(chunk(tokenizer, batch, seq_len))
        _save(shard, np.concatenate(pieces))
        done = min(done + SHARD_DOCUMENTS, count)
        progress(f"tokenised {done:,} of {count:,} {'training' if split == 'train' else 'held-out'} documents")
    return shards


def _merge(partial: Path, split: Split, shards: list[Path]) -> int:
    """Join the shards of a split in `<split>.npy`; returns its number of sequences.

    Training sequences stay in the order of their documents, since every epoch permutes them. Held-out ones are
    permuted here, once, so that a few batches of them see many documents.
    """
    arrays = [np.load(shard, mmap_mode="r") for shard in shards]
    count = sum(map(len, arrays))
    joined = partial / f"{split}.npy"
    if split == "eval":
        _save(joined, np.concatenate(arrays)[permutation(count, 0, 0)])
        return count
    with replacing(joined) as path:
        whole = np.lib.format.open_memmap(path, "w+", arrays[0].dtype, (count, arrays[0].shape[1]))
        np.concatenate(arrays, out=whole)
        whole.flush()
    return count


def _save(path: Path, array: np.ndarray) -> None:
    with replacing(path) as aside, aside.open("wb") as file:
        np.save(file, array)
