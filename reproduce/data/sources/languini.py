"""Languini Books, the paper's books: 16,384-piece SentencePiece tokens in the layout of the Languini kitchen.

    <data.path>/                                 `data/books` of a clone of languini-kitchen/languini-kitchen
        file_list_train.npy                      (N, 2) text: path of a book below books_16384, and its tokens
        file_list_test_iid.npy                   the split `test`; others (langlearn, java, ...) are not read
        books_16384.vocab                        the vocabulary, one piece a line; in languini/vocabs/spm_models there
        books_16384/files/<book>.npy             (n,) uint16 tokens of a book (`tokenise_languini_books.py`)

Training reads the books of the first list in its order, the seed plays no part in it, and evaluation those of the
second, both as `languini/dataset_lib/languini_books.py` does: see `reproduce.data.text.stream`. Piece 2, `<D>`, follows
every book (`END_OF_DOC_TOKEN` in `languini/projects/gpt/main.py`). The first 500 x 16 held-out sequences are those of
Languini's evaluation during training (`max_eval_steps` and `eval_batch_size` in `languini/projects/gpt/configs.py`).

Books are copied to shards below OFE_HOME, in the order of the list, until `data.train_tokens` are there. As a queue
gets its books in that order, the batches of a run do not depend on how many follow; enough are batch size times steps
times sequence length, and one longest book a row more.

books3 was taken down, so nothing is downloaded here; data.source=public-domain-books stands in for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.config import TextData
from reproduce.data.files import read_bytes, user_folder
from reproduce.data.progress import LeftOut, Progress
from reproduce.data.text.documents import Bookmark, Order, Split
from reproduce.data.text.tokeniser import token_dtype
from reproduce.errors import OfeError, SpecError

FILE_LISTS: dict[Split, str] = {"train": "file_list_train.npy", "eval": "file_list_test_iid.npy"}
END_OF_DOCUMENT = 2
END_OF_DOCUMENT_PIECE = "<D>"


class LanguiniBooks:
    """The books of `data.path`.

    Raises:
        SpecError: the folder does not exist, or the vocabulary is of another size.
        OfeError: a file list or the vocabulary is not there.
    """

    def __init__(self, data: TextData) -> None:
        assert data.path is not None
        self.path = user_folder(data.path)
        self.name = f"books_{data.vocab_size}"
        self.lists = {split: self.path / name for split, name in FILE_LISTS.items()}
        self.vocabulary = self.path / f"{self.name}.vocab"
        wanted = [*self.lists.values(), self.path / self.name, self.vocabulary]
        missing = [path.name for path in wanted if not path.exists()]
        if missing:
            raise OfeError(
                f"{data.path} is no copy of Languini Books: it lacks {', '.join(missing)}",
                hint=f"set data.path to the folder that holds {FILE_LISTS['train']}, {self.name} and {self.name}.vocab"
                " (languini/vocabs/spm_models in the Languini kitchen), or train on a substitute with"
                " data.source=public-domain-books",
            )
        self.pieces = read_bytes(self.vocabulary).rstrip(b"\n").split(b"\n")
        if len(self.pieces) != data.vocab_size:
            raise SpecError(
                f"{self.vocabulary.name} has {len(self.pieces):,} pieces, not {data.vocab_size:,}",
                hint=f"set data.vocab_size={len(self.pieces)}",
            )

    def identity(self) -> Mapping[str, Any]:
        """The lists name every book and its length, so that the books need not be read for it."""
        files = {**{name: self.path / name for name in FILE_LISTS.values()}, "vocabulary": self.vocabulary}
        hashes = {name: hashlib.sha256(read_bytes(path)).hexdigest() for name, path in files.items()}
        return {"source": "languini-books", "files": hashes, "end_of_document": END_OF_DOCUMENT}

    def open(self, *, pinned: Mapping[str, Any] | None, offline: bool, progress: Progress) -> Books:
        piece = self.pieces[END_OF_DOCUMENT].split(b"\t")[0].decode()
        if piece != END_OF_DOCUMENT_PIECE:
            raise OfeError(
                f"piece {END_OF_DOCUMENT} of {self.vocabulary.name} is {piece!r}, not {END_OF_DOCUMENT_PIECE}",
                hint="use the vocabulary of the Languini kitchen, with which the books were tokenised",
            )
        return Books(self.path / self.name, self.vocabulary, len(self.pieces), self.lists)


class Books:
    """Tokenised books, in the order of their lists."""

    description = "Languini Books"
    origin: Mapping[str, Any] = {}
    end_of_document = END_OF_DOCUMENT
    order: Order = "listed"
    left_out: Sequence[LeftOut] = ()

    def __init__(self, folder: Path, vocabulary: Path, vocab_size: int, lists: Mapping[Split, Path]) -> None:
        self.vocab_size = vocab_size
        self.vocabulary = vocabulary.name, read_bytes(vocabulary)
        self._folder = folder
        self._books = {split: _read_list(path) for split, path in lists.items()}

    def count(self, split: Split) -> int:
        return len(self._books[split])

    def read_tokens(self, split: Split, start: int, bookmark: Bookmark = None) -> Iterator[list[np.ndarray]]:
        for name, length in self._books[split][start:]:
            yield [self._book(self._folder / name, length)]

    def _book(self, path: Path, length: int) -> np.ndarray:
        """The tokens of a book, which must be as many as its list says."""
        hint = "tokenise the books again with languini/dataset_lib/tokenise_languini_books.py"
        try:
            tokens = np.load(path)
        except FileNotFoundError as error:
            raise OfeError(f"the book {path} is missing", hint=hint) from error
        except (OSError, EOFError, ValueError) as error:
            raise OfeError(f"the book {path} cannot be read: {error}", hint=hint) from error
        dtype = token_dtype(self.vocab_size)
        if tokens.shape != (length,) or tokens.dtype != dtype or (length and int(tokens.max()) >= self.vocab_size):
            raise OfeError(
                f"the book {path} does not hold {length:,} tokens of {dtype} below {self.vocab_size:,}", hint=hint
            )
        return tokens

    def bookmark(self, split: Split) -> None:
        return None


def _read_list(path: Path) -> list[tuple[str, int]]:
    """Paths and lengths of the books of a split."""
    try:
        rows = np.load(path)
        return [(str(name), int(length)) for name, length in rows]
    except (OSError, EOFError, ValueError, TypeError) as error:
        hint = "take the file lists of the Languini kitchen, zenodo.org/record/8326484"
        raise OfeError(f"{path} is not a list of books and their lengths: {error}", hint=hint) from error
