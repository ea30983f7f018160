from __future__ import annotations

from pathlib import Path

import pytest

from reproduce.data import files
from reproduce.data.files import digest, find_files, read_lines, read_texts, user_folder
from reproduce.errors import OfeError, SpecError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name in ("b.txt", "a/z.TXT", "a/c.md", ".git/x.txt", "skip/x.txt", "a/.hidden.txt", "a/data.json"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}")
    (root / "nowhere.txt").symlink_to(root / "missing")
    return root


def test_files_are_found_by_extension_in_the_order_of_their_paths(tree: Path) -> None:
    assert list(find_files(tree, {".txt", ".md"}, {"skip"}).files) == ["a/c.md", "a/z.TXT", "b.txt"]


def test_what_is_no_text_is_left_out(tree: Path) -> None:
    (tree / "b.txt").write_bytes(b"\xff\xfe binary")
    (tree / "blank.txt").write_text(" \n\n")
    texts, left = read_texts(find_files(tree, {".txt"}, {"skip"}).files)
    assert list(texts) == ["a/z.TXT"]
    assert [str(one) for one in left] == [
        "1 of 3 files is not UTF-8 and is left out: b.txt",
        "1 of 3 files is blank and is left out: blank.txt",
    ]
    assert [one.lost for one in left] == [True, False]


def test_the_digest_follows_names_and_contents_and_not_the_place(tree: Path) -> None:
    def now(root: Path) -> str:
        return digest(find_files(root, {".txt"}, {"skip"}).files)

    first = now(tree)
    assert now(tree) == first
    moved = tree.rename(tree.with_name("elsewhere"))
    assert now(moved) == first
    (moved / "b.txt").write_text("other text")
    changed = now(moved)
    (moved / "b.txt").rename(moved / "c.txt")
    assert len({first, changed, now(moved)}) == 3


def test_a_file_that_cannot_be_read_is_named(tree: Path) -> None:
    with pytest.raises(OfeError, match=r"cannot read .*tree: Is a directory"):
        read_texts({"tree": tree})


def test_lines_are_those_of_the_whole_text_wherever_blocks_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "one\ntwo\r\nthree\rfour\x0bfive\u2028six é ü 数\r\n\r\n\nlast"
    path = tmp_path / "text.txt"
    for content in (text, text + "\r", text + "\n", "", "\r\n"):
        path.write_bytes(content.encode())
        for block in range(1, 12):
            monkeypatch.setattr(files, "_BLOCK_BYTES", block)
            assert list(read_lines(path, 100)) == content.splitlines(keepends=True)
            cut = [line[at : at + 3] for line in content.splitlines(keepends=True) for at in range(0, len(line), 3)]
            assert list(read_lines(path, 3)) == cut


def test_lines_of_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "cut.txt").write_bytes("é".encode()[:1])
    with pytest.raises(UnicodeDecodeError):
        list(read_lines(tmp_path / "cut.txt", 9))
    with pytest.raises(OfeError, match=r"cannot read .*: Is a directory"):
        list(read_lines(tmp_path, 9))


def test_a_missing_folder_and_a_file_in_its_place(tree: Path) -> None:
    with pytest.raises(SpecError, match="does not exist"):
        user_folder(str(tree / "missing"))
    with pytest.raises(SpecError, match="is a file, not a folder") as caught:
        user_folder(str(tree / "b.txt"))
    assert caught.value.hint == f"set data.path to the folder that holds it: {tree}"
