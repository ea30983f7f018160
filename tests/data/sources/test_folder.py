from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from reproduce.config import TextData
from reproduce.data import files, fingerprint, open_text
from reproduce.data.sources.folder import PART_CHARACTERS, Folder, parts
from reproduce.data.text.documents import SPLITS
from reproduce.errors import OfeError, SpecError

from ..conftest import make_text


def _data(path: Path) -> TextData:
    return TextData(source="folder", path=str(path), seq_len=16, vocab_size=300)


def test_text_and_code_are_read_and_data_is_not(tmp_path: Path) -> None:
    for name in ("a.py", "b.md", "deep/c.rs", "d.txt"):
        (tmp_path / "mixed" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mixed" / name).write_text(make_text(1))
    (tmp_path / "mixed/data.json").write_text("{}")
    (tmp_path / "mixed/node_modules").mkdir()
    (tmp_path / "mixed/node_modules/x.js").write_text(make_text(2))
    before = fingerprint(_data(tmp_path / "mixed"))
    (tmp_path / "mixed/data.json").write_text("{'changed': 1}")
    assert fingerprint(_data(tmp_path / "mixed")) == before
    corpus = open_text(_data(tmp_path / "mixed"))
    assert corpus.meta["documents"] == {"train": 3, "eval": 1}
    assert corpus.description == "text files of mixed"


def test_one_book_is_enough(tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf/book.txt").write_text("".join(make_text(seed) for seed in range(20)))
    corpus = open_text(_data(tmp_path / "shelf"))
    assert corpus.meta["documents"]["train"] > corpus.meta["documents"]["eval"] >= 1


def test_what_is_no_text_or_blank_gives_no_document(tmp_path: Path) -> None:
    (tmp_path / "mixed").mkdir()
    for number in range(4):
        (tmp_path / f"mixed/{number}.txt").write_text(make_text(number))
    before = open_text(_data(tmp_path / "mixed")).meta["sha256"]
    (tmp_path / "mixed/binary.txt").write_bytes(make_text(9).encode() + b"\xff\xfe")
    (tmp_path / "mixed/blank.txt").write_text(" \n\t\n")
    assert open_text(_data(tmp_path / "mixed")).meta["sha256"] == before


def test_documents_can_be_read_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    for number in range(3):
        text = "".join(make_text(seed) for seed in range(number, number + 12))
        (tmp_path / f"shelf/{number}.txt").write_text(text)
    source = Folder(_data(tmp_path / "shelf"))
    documents = source.open(pinned=None, offline=False, progress=lambda line: None)
    for split in SPLITS:
        every = list(documents.read(split, 0))
        assert len(every) == documents.count(split)
        for start in range(len(every) + 1):
            assert list(documents.read(split, start)) == every[start:]
    assert documents.count("train") > 4


def test_texts_do_not_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files of 1.2 MB are read through in less than a quarter of what they hold."""
    (tmp_path / "long").mkdir()
    for number in range(2):
        (tmp_path / f"long/{number}.txt").write_text(make_text(number, words=4_000) * 35)
    monkeypatch.setattr(files, "_BLOCK_BYTES", 2**14)
    tracemalloc.start()
    try:
        source = Folder(_data(tmp_path / "long"))
        fingerprint(_data(tmp_path / "long"))
        documents = source.open(pinned=None, offline=False, progress=lambda line: None)
        read = sum(len(text) for split in SPLITS for text in documents.read(split, 0))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert read == sum(path.stat().st_size for path in (tmp_path / "long").iterdir()) > 2_000_000
    assert peak < read / 4


def test_parts_are_cut_at_line_ends_and_lose_nothing() -> None:
    text = "".join(make_text(seed) for seed in range(20)) + "y" * (PART_CHARACTERS + 1) + "\nlast"
    cut = list(parts(text.splitlines(keepends=True)))
    assert "".join(cut) == text
    assert all(part.endswith("\n") for part in cut[:-1])
    assert [len(part) > PART_CHARACTERS for part in cut].count(True) == 1
    assert list(parts(["short"])) == ["short"]


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"the folder .*nowhere does not exist"):
        open_text(_data(tmp_path / "nowhere"))


def test_a_folder_without_text(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/image.png").write_bytes(b"\x89PNG")
    with pytest.raises(OfeError, match="holds no text files") as caught:
        fingerprint(_data(tmp_path / "empty"))
    assert ".txt" in str(caught.value.hint)


def test_a_folder_with_one_short_file(tmp_path: Path) -> None:
    (tmp_path / "note").mkdir()
    (tmp_path / "note/note.txt").write_text("only this")
    with pytest.raises(OfeError, match="too little text to train on some of it and hold out the rest"):
        open_text(_data(tmp_path / "note"))
