"""Languini Books from small folders in the kitchen's own layout, against its reading of them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from reproduce.config import TextData
from reproduce.data import fingerprint, open_text
from reproduce.data.sources.languini import END_OF_DOCUMENT, FILE_LISTS
from reproduce.data.text import shards
from reproduce.data.text.stream import StreamCorpus
from reproduce.errors import OfeError, SpecError

VOCAB = 320
COUNTS = {"train": 40, "eval": 24}


def make_books(root: Path, split: str) -> list[list[int]]:
    """Tokenised books as `tokenise_languini_books.py` saves them, with their list; returns their tokens."""
    draw = np.random.default_rng(len(split))
    (root / f"books_{VOCAB}/files").mkdir(parents=True, exist_ok=True)
    books, rows = [], []
    for number in range(COUNTS[split]):
        tokens = draw.integers(3, VOCAB, int(draw.integers(100, 300))).astype(np.uint16)
        name = f"files/{split} {number:03}.npy"
        np.save(root / f"books_{VOCAB}" / name, tokens)
        books.append(tokens.tolist())
        rows.append([name, str(len(tokens))])
    np.save(root / FILE_LISTS["train" if split == "train" else "eval"], np.array(rows))
    return books


def write_vocabulary(root: Path, pieces: int = VOCAB, third: str = "<D>") -> None:
    names = ["<pad>", "<unk>", third, *(f"▁piece{number}" for number in range(pieces - 3))]
    (root / f"books_{VOCAB}.vocab").write_text("".join(f"{name}\n" for name in names))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "books"
    for split in COUNTS:
        make_books(root, split)
    write_vocabulary(root)
    return root


@pytest.fixture
def data(root: Path) -> TextData:
    return TextData(source="languini-books", path=str(root), seq_len=16, vocab_size=VOCAB, packing="stream")


def _kitchen(books: list[list[int]], rows: int) -> list[itertools.cycle[int]]:
    """The queues of `distribute_docs`, read as `LanguiniDatasetIterator(repeat=True)` reads them."""
    queues: list[list[int]] = [[] for _ in range(rows)]
    loads = [0] * rows
    for book in books:
        shortest = int(np.argmin(loads))
        queues[shortest] += [*book, END_OF_DOCUMENT]
        loads[shortest] += len(book)
    return [itertools.cycle(queue) for queue in queues]


def test_training_reads_the_books_as_the_kitchen_does_whatever_the_seed(data: TextData, root: Path) -> None:
    corpus = open_text(data)
    queues = _kitchen(make_books(root, "train"), 6)
    for step in range(200):
        expected = [list(itertools.islice(queue, 16)) for queue in queues]
        assert corpus.batch(step % 3, step, 6).tolist() == expected


def test_evaluation_reads_the_test_split_in_sixteen_queues(data: TextData, root: Path) -> None:
    corpus = open_text(data)
    books = make_books(root, "eval")
    queues = _kitchen(books, 16)
    expected = [list(itertools.islice(queue, 16)) for _ in range(6) for queue in queues]
    assert np.load(corpus.folder / "eval.npy")[: len(expected)].tolist() == expected
    assert corpus.eval_batch(0, 32).tolist() == expected[:32]


def test_the_prepared_folder_stands_alone(data: TextData, root: Path) -> None:
    corpus = open_text(data)
    pinned = data.model_copy(update={"fingerprint": corpus.fingerprint})
    root.rename(root.with_name("gone"))
    again = open_text(pinned)
    np.testing.assert_array_equal(again.batch(0, 3, 4), corpus.batch(0, 3, 4))
    assert (corpus.folder / f"books_{VOCAB}.vocab").exists()
    assert corpus.meta["order"] == "listed"
    assert corpus.meta["documents"] == {"train": 40, "eval": 24}
    assert corpus.description == "Languini Books"
    assert corpus.vocab_size == VOCAB


def test_a_part_that_covers_a_run_gives_its_batches(data: TextData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_TOKENS", 2_000)
    whole, part = open_text(data), open_text(data.model_copy(update={"train_tokens": 4_000}))
    assert isinstance(whole, StreamCorpus)
    assert isinstance(part, StreamCorpus)
    assert 4_000 <= part.train_tokens < whole.train_tokens
    rows, longest = 4, 300
    steps = (4_000 - rows * longest) // (rows * 16)
    for step in range(steps):
        np.testing.assert_array_equal(part.batch(0, step, rows), whole.batch(0, step, rows))


def test_the_fingerprint_follows_lists_and_vocabulary_and_reads_no_book(data: TextData, root: Path) -> None:
    first = fingerprint(data)
    for book in (root / f"books_{VOCAB}/files").iterdir():
        book.unlink()
    assert fingerprint(data) == first
    np.save(root / FILE_LISTS["train"], np.load(root / FILE_LISTS["train"])[::-1])
    assert fingerprint(data) != first


def test_without_a_path_the_substitute_is_named() -> None:
    with pytest.raises(SpecError, match=r"the source languini-books needs data\.path") as caught:
        fingerprint(TextData(source="languini-books", seq_len=512, vocab_size=16_384, packing="stream"))
    assert "books3" in str(caught.value.hint)
    assert "data.source=public-domain-books" in str(caught.value.hint)


def test_a_folder_that_is_no_copy_says_what_it_lacks(data: TextData, root: Path) -> None:
    (root / f"books_{VOCAB}.vocab").unlink()
    with pytest.raises(OfeError, match=rf"it lacks books_{VOCAB}\.vocab$") as caught:
        fingerprint(data)
    assert "languini/vocabs/spm_models" in str(caught.value.hint)
    with pytest.raises(OfeError, match=r"it lacks file_list_train\.npy, file_list_test_iid\.npy, books_320"):
        fingerprint(data.model_copy(update={"path": str(root / f"books_{VOCAB}")}))


def test_a_vocabulary_of_another_size_or_kind(data: TextData, root: Path) -> None:
    write_vocabulary(root, pieces=300)
    with pytest.raises(SpecError, match=r"books_320\.vocab has 300 pieces, not 320"):
        fingerprint(data)
    write_vocabulary(root, third="</s>")
    with pytest.raises(OfeError, match=r"piece 2 of books_320\.vocab is '</s>', not <D>"):
        open_text(data)


def test_books_that_are_not_what_the_list_says(data: TextData, root: Path) -> None:
    book = root / f"books_{VOCAB}/files/train 007.npy"
    tokens = np.load(book)
    shorter, of_another_type, beyond_the_vocabulary = tokens[:-1], tokens.astype(np.int64), np.full_like(tokens, VOCAB)
    for wrong in (shorter, of_another_type, beyond_the_vocabulary):
        np.save(book, wrong)
        with pytest.raises(OfeError, match=f"train 007.npy does not hold {len(tokens)} tokens of uint16 below 320"):
            open_text(data)
    for broken in (b"\x93NUMPY", b""):
        book.write_bytes(broken)
        with pytest.raises(OfeError, match=r"the book .*train 007\.npy cannot be read"):
            open_text(data)
    book.unlink()
    with pytest.raises(OfeError, match=r"the book .*train 007\.npy is missing") as caught:
        open_text(data)
    assert "tokenise_languini_books.py" in str(caught.value.hint)


def test_a_list_that_is_none(data: TextData, root: Path) -> None:
    np.save(root / FILE_LISTS["eval"], np.arange(4))
    with pytest.raises(OfeError, match=r"file_list_test_iid\.npy is not a list of books"):
        open_text(data)
