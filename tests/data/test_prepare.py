from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from reproduce.config import TextData
from reproduce.data import open_text, prepared_folder
from reproduce.errors import OfeError

from .conftest import make_text, shard_every


class Stopped(Exception):
    """Stands for whatever ends a process."""


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
