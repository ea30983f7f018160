from __future__ import annotations

from pathlib import Path

import pytest

from reproduce.config import TextData
from reproduce.data import fingerprint, open_text
from reproduce.data.folder import PART_CHARACTERS, parts
from reproduce.errors import OfeError, SpecError

from .conftest import make_text


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
