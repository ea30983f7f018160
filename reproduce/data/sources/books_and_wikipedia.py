"""BookCorpus and English Wikipedia, on which the OPT models of v2 Table 2 are trained, streamed from the hub.

The training documents are all books and then all articles; chunk packing shuffles their sequences. Held out are the
articles of Wikipedia's validation split, as in the scripts of Bondarenko et al. (arXiv 2306.12929). The tokeniser is a
byte-level BPE trained on equally many characters of both; theirs is that of OPT.

BookCorpus is a dataset with a loading script, which `datasets` no longer runs. The hub's own conversion of it to
parquet is read instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reproduce.config import TextData
from reproduce.data.progress import LeftOut, Progress
from reproduce.data.sources.hub_text import TOKENISER_CHARACTERS, HubDataset, HubSource, StreamedDocuments, recipe
from reproduce.data.text.documents import Bookmark, Split

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BOOKS = HubDataset("bookcorpus/bookcorpus", "refs/convert/parquet")
WIKIPEDIA = HubDataset("google/wiki40b", "main", "en")
NAMES = ("books", "wikipedia")


class BooksAndWikipedia:
    """Both datasets, each of which is read as any dataset of the hub is."""

    def __init__(self, data: TextData) -> None:
        self.parts = [HubSource(data, dataset) for dataset in (BOOKS, WIKIPEDIA)]

    def identity(self) -> Mapping[str, Any]:
        datasets = [[part.dataset.name, part.dataset.revision, part.dataset.subset] for part in self.parts]
        return {"source": "books-and-wikipedia", "recipe": recipe(), "datasets": datasets}

    def open(self, *, pinned: Mapping[str, Any] | None, offline: bool, progress: Progress) -> BothDocuments:
        opened = [
            part.open(pinned=None if pinned is None else pinned[name], offline=offline, progress=progress)
            for name, part in zip(NAMES, self.parts, strict=True)
        ]
        return BothDocuments(*opened)


class BothDocuments:
    """The documents of two datasets one after the other; those of the second one's held-out split are held out."""

    def __init__(self, books: StreamedDocuments, wikipedia: StreamedDocuments) -> None:
        self.parts = (books, wikipedia)
        self.description = f"{books.description}, and {wikipedia.description}"
        self._standing = 0

    @property
    def origin(self) -> Mapping[str, Any]:
        return {name: part.origin for name, part in zip(NAMES, self.parts, strict=True)}

    @property
    def left_out(self) -> Sequence[LeftOut]:
        return [one for part in self.parts for one in part.left_out]

    def count(self, split: Split) -> None:
        return None

    def read(self, split: Split, start: int, bookmark: Bookmark = None) -> Iterator[str]:
        if split == "eval":
            yield from self.parts[1].read("eval", start, bookmark)
            return
        first = bookmark["part"] if bookmark else 0
        for index in range(first, len(self.parts)):
            goes_on = index == first and bookmark
            for text in self.parts[index].read("train", *((start, bookmark["at"]) if goes_on else (0, None))):
                self._standing = index
                yield text

    def bookmark(self, split: Split) -> dict[str, Any]:
        if split == "eval":
            return self.parts[1].bookmark("eval")
        return {"part": self._standing, "at": self.parts[self._standing].bookmark("train")}

    def tokeniser(self, vocab_size: int, progress: Progress) -> Tokenizer:
        from reproduce.data.text.tokeniser import train_bpe

        progress(f"training a tokeniser of {vocab_size:,} tokens on up to {TOKENISER_CHARACTERS:,} characters")
        return train_bpe(self._sample(progress), vocab_size)

    def _sample(self, progress: Progress) -> Iterator[str]:
        """Training documents of both datasets, up to half of the tokeniser's characters of each."""
        for part in self.parts:
            characters = 0
            for text in part.sample(progress):
                yield text
                characters += len(text)
                if characters >= TOKENISER_CHARACTERS // 2:
                    break
