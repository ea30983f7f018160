from __future__ import annotations

import errno
import json
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reproduce.config import TextData
from reproduce.data import open_text, prepared_folder
from reproduce.data.progress import LeftOut
from reproduce.data.text import prepare, shards, tokeniser
from reproduce.data.text.documents import Order, Split
from reproduce.errors import OfeError, SpecError

from ..conftest import make_text, shard_every


class Stopped(Exception):
    """Stands for whatever ends a process."""


def _stop(*args: object) -> None:
    raise Stopped


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_preparations_give_the_same_bytes(
    folder_data: TextData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _files(open_text(folder_data).folder)
    monkeypatch.setenv("OFE_HOME", str(tmp_path / "another home"))
    assert _files(open_text(folder_data).folder) == first
    assert set(first) == {"train.npy", "eval.npy", "tokenizer.json", "meta.json"}


@pytest.mark.parametrize("packing", ["chunks", "stream"])
def test_what_was_stopped_leaves_nothing_half_done_and_continues(
    folder_data: TextData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: str
) -> None:
    folder_data = folder_data.model_copy(update={"packing": packing})
    shard_every(monkeypatch, 4)
    uninterrupted = _files(open_text(folder_data).folder)
    monkeypatch.setenv("OFE_HOME", str(tmp_path / "another home"))
    said: list[str] = []
    for patience in range(1, 20):
        said_now: list[str] = []

        def stop(line: str, said_now: list[str] = said_now, patience: int = patience) -> None:
            said_now.append(line)
            if sum("tokenised" in line for line in said_now) == min(patience, 2):
                raise Stopped

        try:
            corpus = open_text(folder_data, progress=stop)
        except Stopped:
            assert not prepared_folder(folder_data).exists()
            said += said_now
        else:
            said += said_now
            break
    assert _files(corpus.folder) == uninterrupted
    tokenised = [line for line in said if line.startswith("tokenised")]
    assert len(tokenised) == len(set(tokenised)) > 4, "no shard is made twice"
    assert sum("training a tokeniser" in line for line in said) == 1
    assert not corpus.folder.with_name(corpus.folder.name + ".partial").exists()


def test_shards_do_not_change_the_sequences(
    folder_data: TextData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _files(open_text(folder_data).folder)
    monkeypatch.setenv("OFE_HOME", str(tmp_path / "another home"))
    shard_every(monkeypatch, 3)
    assert _files(open_text(folder_data).folder) == whole


class LongTokens:
    """40 documents a split of 25,000 tokens, 2 MB in all, each made when it is read."""

    description = "tokens"
    origin: Mapping[str, Any] = {}
    vocab_size = 300
    end_of_document = 0
    order: Order = "listed"
    left_out: Sequence[LeftOut] = ()
    vocabulary = "tokens.txt", b""

    def identity(self) -> Mapping[str, Any]:
        return {}

    def open(self, **options: object) -> LongTokens:
        return self

    def count(self, split: Split) -> int:
        return 40

    def read_tokens(self, split: Split, start: int, bookmark: object = None) -> Iterator[list[np.ndarray]]:
        for number in range(start, 40):
            yield [np.full(25_000, 1 + number, np.uint16)]

    def bookmark(self, split: Split) -> None:
        return None


@pytest.mark.parametrize("packing", ["chunks", "stream"])
def test_memory_is_bounded_by_the_shard_and_not_by_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: str
) -> None:
    """2 MB of tokens in shards of 100 KB never take more than four shards."""
    data = TextData.model_validate(
        {"source": "folder", "path": "", "seq_len": 500, "vocab_size": 300, "packing": packing}
    )
    monkeypatch.setattr(shards, "SHARD_TOKENS", 50_000)
    tracemalloc.start()
    try:
        prepare.prepare(LongTokens(), data, tmp_path / "tokens", "0", progress=lambda line: None, offline=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(path.stat().st_size for path in (tmp_path / "tokens").iterdir()) > 3_500_000
    assert peak < 4 * 100_000


def test_a_preparation_that_was_stopped_at_its_very_end_only_finishes(
    folder_data: TextData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _files(open_text(folder_data).folder)
    monkeypatch.setenv("OFE_HOME", str(tmp_path / "another home"))
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "_finish", _stop)
        with pytest.raises(Stopped):
            open_text(folder_data)
    (prepared_folder(folder_data).with_name(prepared_folder(folder_data).name + ".partial") / "origin.json").unlink()
    lines: list[str] = []
    assert _files(open_text(folder_data, progress=lines.append).folder) == whole
    assert lines == []


def test_a_tokeniser_without_an_end_of_document_cannot_stream(
    folder_data: TextData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokeniser.TokenisedText, "end_of_document", None)
    with pytest.raises(SpecError, match=r"the tokeniser of folder has no token <\|endoftext\|>") as caught:
        open_text(folder_data.model_copy(update={"packing": "stream"}))
    assert caught.value.hint == "set data.packing=chunks"


def test_meta_tells_what_was_made(folder_data: TextData) -> None:
    corpus = open_text(folder_data)
    meta = json.loads((corpus.folder / "meta.json").read_text())
    assert meta["documents"]["train"] + meta["documents"]["eval"] == 24
    assert meta["sequences"] == {"train": corpus.train_sequences, "eval": corpus.eval_sequences}
    assert meta["tokens"]["train"] == corpus.train_sequences * folder_data.seq_len
    assert meta["bytes"]["train.npy"] == (corpus.folder / "train.npy").stat().st_size
    assert (meta["source"], meta["packing"], meta["seq_len"]) == ("folder", "chunks", 16)


def test_too_little_text_for_the_sequence_length(texts: Path) -> None:
    data = TextData(source="folder", path=str(texts), seq_len=100_000, vocab_size=300)
    with pytest.raises(OfeError, match="too few sequences of 100,000 tokens: 0 to train on, 0 held out") as caught:
        open_text(data)
    assert caught.value.hint == "lower data.seq_len, or use a larger source"


def test_no_document_is_both_trained_on_and_held_out(tmp_path: Path) -> None:
    folder = tmp_path / "marked"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02}.txt").write_text(chr(ord("a") + number) * 500)
    corpus = open_text(TextData(source="folder", path=str(folder), seq_len=4, vocab_size=257))
    seen = {}
    for split, count in (("train", corpus.train_sequences), ("eval", corpus.eval_sequences)):
        batch = corpus.batch(0, 0, count) if split == "train" else corpus.probe_batch(count - count // 2)
        seen[split] = set(batch.flatten().tolist())
    assert len(seen["train"]) > 8
    assert seen["eval"]
    assert not seen["train"] & seen["eval"]


def test_a_file_in_the_way_is_explained(folder_data: TextData, home: Path) -> None:
    home.mkdir()
    (home / "data").write_text(make_text(0))
    with pytest.raises(OfeError, match="is not a folder") as caught:
        open_text(folder_data)
    assert "OFE_HOME" in str(caught.value.hint)


def test_a_full_disk_is_explained_and_costs_nothing_that_was_done(
    folder_data: TextData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("numpy.save", full)
        with pytest.raises(OfeError, match=r"no space is left for .*train-00000\.lengths\.npy"):
            open_text(folder_data)
    lines: list[str] = []
    open_text(folder_data, progress=lines.append)
    assert not any("training a tokeniser" in line for line in lines)
