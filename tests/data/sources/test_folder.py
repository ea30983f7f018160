from __future__ import annotations

import errno
import os
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


def _write(folder: Path, files: dict[str, bytes]) -> TextData:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return _data(folder)


LATIN = ("caf\xe9 au lait, d\xe9j\xe0 vu\n" * 2_000).encode("latin-1")


def test_parts_are_cut_at_line_ends_and_lose_nothing() -> None:
    text = "".join(make_text(seed) for seed in range(20)) + "last"
    cut = list(parts(text.splitlines(keepends=True)))
    assert "".join(cut) == text
    assert len(cut) > 2
    assert all(part.endswith("\n") for part in cut[:-1])
    assert max(map(len, cut)) <= PART_CHARACTERS
    assert list(parts(["short"])) == ["short"]


@pytest.mark.parametrize("characters", [PART_CHARACTERS + 1, 1_500_000])
def test_one_file_of_one_long_line_is_several_documents(tmp_path: Path, characters: int) -> None:
    text = ("a few words " * (characters // 12 + 1))[:characters]
    data = _write(tmp_path / "some", {"one.txt": text.encode()})
    documents = Folder(data).open(pinned=None, offline=False, progress=lambda line: None)
    read = [document for split in SPLITS for document in documents.read(split, 0)]
    expected = [text[at : at + PART_CHARACTERS] for at in range(0, characters, PART_CHARACTERS)]
    assert sorted(read) == sorted(expected)


def test_long_lines_are_part_of_the_identity_where_there_are_any(tmp_path: Path) -> None:
    line = "x" * (PART_CHARACTERS - 2) + "\n"
    short = Folder(_write(tmp_path / "short", {"a.txt": line.encode() * 3})).identity()
    long = Folder(_write(tmp_path / "long", {"a.txt": b"a\n", "b.txt": b"xx" + line.encode() + b"y"})).identity()
    assert "long_lines" not in short
    assert long["long_lines"] == "cut"


def test_a_file_that_is_not_utf_8_is_left_out_with_a_word(tmp_path: Path) -> None:
    """The largest of three files is in Latin-1."""
    files = {"a.txt": LATIN, "b.txt": make_text(1).encode(), "c.txt": make_text(2).encode()}
    lines: list[str] = []
    corpus = open_text(_write(tmp_path / "some", files), progress=lines.append)
    assert "1 of 3 files is not UTF-8 and is left out: a.txt" in lines
    assert corpus.meta["left_out"][0] == {
        "what": "files",
        "reason": "not UTF-8",
        "count": 1,
        "of": 3,
        "names": ["a.txt"],
        "lost": True,
    }
    assert corpus.description == "text files of some, without 1 of 3 files (not UTF-8)"


def test_everything_that_is_left_out_of_a_folder_is_counted(tmp_path: Path) -> None:
    files = {f"{number}.txt": make_text(number).encode() for number in range(6)}
    files |= {
        "wide.txt": make_text(9).encode("utf-16"),
        "sub/late.md": make_text(8).encode() + b"\xff",
        "blank.txt": b" \n",
    }
    files |= {"table.csv": b"a,b\n", "README": b"words\n"}
    data = _write(tmp_path / "some", files)
    (tmp_path / "some/gone.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "more").mkdir()
    (tmp_path / "some/more").symlink_to(tmp_path / "more")
    lines: list[str] = []
    open_text(data, progress=lines.append)
    assert [line for line in lines if "left out" in line and "documents" not in line] == [
        "2 of 13 files are of another type and are left out: README, table.csv",
        "2 of 13 files are links to folders or to nothing and are left out: gone.txt, more",
        "2 of 9 files are not UTF-8 and are left out: sub/late.md, wide.txt",
        "1 of 9 files is blank and is left out: blank.txt",
    ]


def test_a_folder_of_which_no_file_is_left(tmp_path: Path) -> None:
    data = _write(tmp_path / "some", {"a.txt": LATIN, "b.txt": LATIN})
    with pytest.raises(OfeError, match=r"2 of 2 files are not UTF-8 and are left out: a\.txt, b\.txt") as caught:
        open_text(data)
    assert "iconv" in str(caught.value.hint)


def test_documents_too_short_for_a_sequence_are_counted(tmp_path: Path) -> None:
    files = {f"{number}.txt": make_text(number).encode() for number in range(9)} | {
        "short.txt": b"one\n",
        "tiny.txt": b"a\n",
    }
    corpus = open_text(_write(tmp_path / "some", files))
    short = [one for one in corpus.meta["left_out"] if "shorter than a sequence of" in one["reason"]]
    assert sum(one["count"] for one in short) == 2
    assert corpus.description == "text files of some"


def test_a_folder_that_may_not_be_read_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _write(tmp_path / "some", {"a.txt": b"a", "closed/b.txt": b"b"})
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(OfeError, match=r"cannot read the folder .*closed: Permission denied"):
        fingerprint(data)


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


@pytest.mark.parametrize("name", [b"caf\xe9.txt", b"\xff/\xfe.txt"])
def test_names_need_not_be_utf_8(tmp_path: Path, name: bytes) -> None:
    files = {f"{number}.txt": make_text(number).encode() for number in range(5)}
    data = _write(tmp_path / "some", files)
    before = fingerprint(data)
    corpus = open_text(_write(tmp_path / "some", {os.fsdecode(name): make_text(9).encode()}))
    assert corpus.fingerprint != before
    assert corpus.meta["documents"]["train"] + corpus.meta["documents"]["eval"] == 6
