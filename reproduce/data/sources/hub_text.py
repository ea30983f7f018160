"""Any dataset of text on the Hugging Face hub, streamed row by row, or a copy of one in a folder.

Of a dataset are read the split `train` (or the only one there is) and one column of text. Held out are the documents of
a split for validation or test where the dataset has one, else every 20th row of the training split; reading of them
ends after 40 million characters, about 10 million tokens. The tokeniser is a byte-level BPE trained on the first 200
million characters of the training documents. So nothing is stored but tokens, and no row needs to be counted.

A preparation that was stopped goes on in the file of the dataset in which it stood: with each shard, the state of the
stream is written down.

`data.path` may name a copy: a folder in any layout that `datasets.load_dataset` recognises (parquet, jsonl, json.gz).
The commit for which a revision such as `main` stands is resolved once, when a preparation starts, holds for all of it,
and is written to meta.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from reproduce.config import TextData
from reproduce.data.files import digest, find_files, user_folder
from reproduce.data.hub import explained, find_snapshot, may_not_download
from reproduce.data.progress import Progress, Step
from reproduce.data.text.documents import Bookmark, Split
from reproduce.errors import OfeError, SpecError

if TYPE_CHECKING:
    from datasets import IterableDataset
    from tokenizers import Tokenizer

TEXT_COLUMNS = ("text", "content")
"""Names of the column that is read, in any case; or the only column of strings."""
HELD_OUT_SPLITS = ("validation", "valid", "dev", "test")
"""Names of the split that is held out, the first that there is."""
HELD_OUT_EVERY = 20
HELD_OUT_CHARACTERS = 40_000_000
TOKENISER_CHARACTERS = 200_000_000

AGAIN = "run it again: preparation continues after the last documents it has written"


def recipe() -> dict[str, Any]:
    """How the documents of a dataset are split and tokenised; part of the identity of every source that does so."""
    return {
        "columns": TEXT_COLUMNS,
        "held_out": [HELD_OUT_SPLITS, HELD_OUT_EVERY, HELD_OUT_CHARACTERS],
        "tokeniser": ["byte-level BPE trained on the training documents", TOKENISER_CHARACTERS],
        "version": 1,
    }


@dataclass(frozen=True)
class HubDataset:
    """What is read of the hub."""

    name: str
    """owner/name."""
    revision: str = "main"
    subset: str | None = None

    @property
    def description(self) -> str:
        return f"{self.name}, {self.subset}" if self.subset else self.name


class HubSource:
    """A dataset, or a copy of it in `data.path`.

    Args:
        dataset: what to read where there is no copy.
    """

    def __init__(self, data: TextData, dataset: HubDataset) -> None:
        self.name = data.source
        self.dataset = dataset
        self.path = None if data.path is None else user_folder(data.path)
        self.copy_subset = data.subset

    def identity(self) -> Mapping[str, Any]:
        same = {"source": self.name, "recipe": recipe()}
        if self.path is not None:
            files = find_files(self.path, None, ())  # a README may say which files are what
            return same | {"files": digest(files), "subset": self.copy_subset}
        return same | {"dataset": [self.dataset.name, self.dataset.revision, self.dataset.subset]}

    def open(self, *, pinned: Mapping[str, Any] | None, offline: bool, progress: Progress) -> StreamedDocuments:
        if self.path is not None:
            description = f"documents of {self.path.name}"
            return StreamedDocuments(description, Place(str(self.path), self.copy_subset, None), pinned or {})
        name, subset = self.dataset.name, self.dataset.subset
        progress(f"looking up {name}")
        revision = self.dataset.revision if pinned is None else pinned["commit"]
        offline = may_not_download(offline)
        wanted = None if offline else ["README.md"]
        snapshot = find_snapshot(name, revision, copy="a copy of the dataset", offline=offline, wanted=wanted)
        place = Place(str(snapshot), subset, None) if offline else Place(name, subset, snapshot.name)
        return StreamedDocuments(self.dataset.description, place, pinned or {"dataset": name, "commit": snapshot.name})


class Hub(HubSource):
    """The dataset that `data.dataset` names.

    Raises:
        SpecError: none is named, nor a copy; or the name is not owner/name or owner/name@revision.
    """

    def __init__(self, data: TextData) -> None:
        name, _, revision = (data.dataset or "").partition("@")
        if data.path is not None and data.dataset is not None:
            raise SpecError("data.path and data.dataset name two sources of text", hint="drop one of them")
        if data.path is None and (name.count("/") != 1 or not all(name.split("/"))):
            given = f", not {data.dataset!r}" if data.dataset else ""
            raise SpecError(
                f"the source hub needs data.dataset as owner/name{given}",
                hint="set data.dataset, such as data.dataset=roneneldan/TinyStories, or data.path to a copy of one",
            )
        super().__init__(data, HubDataset(name, revision or "main", data.subset))


FINEWEB_EDU = HubDataset("HuggingFaceFW/fineweb-edu", "87f09149ef4734204d70ed1d046ddc9ca3f2b8f9", "sample-10BT")
"""The paper's web text of its largest models (v2 Appendix D).

It has samples drawn at random from all of it, which suffice: the paper's runs read 5.9 billion tokens (7B) and 90
billion (1.2B).

    data.subset      tokens      enough for
    sample-10BT      10 billion  the 7B model, and anything smaller; the default
    sample-100BT     100 billion the 1.2B model
    sample-350BT     350 billion

`data.train_tokens` ends the preparation where a run has enough. The authors do not state their vocabulary; here it is
a byte-level BPE of `data.vocab_size` tokens, trained on the text.
"""

PUBLIC_DOMAIN_BOOKS = HubDataset("common-pile/project_gutenberg_filtered", "3cdf6879c807f4e4e063f2ceb23bc268d8c29ab7")
"""Books in the public domain, which stand in for Languini Books, a part of books3 that can no longer be had.

They are the English books of Project Gutenberg as the Common Pile keeps them (Kandpal et al., arXiv 2506.05209):
selected by language and licence, boilerplate removed, filtered for bad OCR, and freed of near duplicates. They were
chosen over the other copies of Project Gutenberg on the hub because how they were made is published, and over the
larger collections of scanned books (Internet Archive, Library of Congress) because people have proofread their text.

They differ from Languini Books in more than the choice of books. They are older, fewer, and of another mix of genres,
and the vocabulary is a byte-level BPE of the same size trained on them, not Languini's SentencePiece model. Losses and
perplexities of the two do not compare; what is compared is blocks and optimisers with one another.
"""


class FineWebEdu(HubSource):
    """A sample of FineWeb-Edu, or a copy of it in `data.path`."""

    def __init__(self, data: TextData) -> None:
        super().__init__(data, replace(FINEWEB_EDU, subset=data.subset or FINEWEB_EDU.subset))


class PublicDomainBooks(HubSource):
    """Project Gutenberg's English books, or a copy of the dataset in `data.path`."""

    def __init__(self, data: TextData) -> None:
        super().__init__(data, PUBLIC_DOMAIN_BOOKS)


class Place(NamedTuple):
    """Where `datasets.load_dataset` finds a dataset."""

    path: str
    """A name on the hub, or a folder."""
    subset: str | None
    revision: str | None


class StreamedDocuments:
    """Documents of a dataset as they stream by.

    Args:
        description: one line for badges.
        place: where the dataset is.
        origin: what was resolved when the preparation started; completed here by the names of splits and column.

    Raises:
        OfeError: the dataset cannot be read, or nothing in it is evidently the text.
    """

    def __init__(self, description: str, place: Place, origin: Mapping[str, Any]) -> None:
        self.description = description
        self._place = place
        self._standing: dict[Split, tuple[IterableDataset, int, int]] = {}
        self.origin: Mapping[str, Any] = origin if "column" in origin else {**origin, **self._layout()}

    def _layout(self) -> dict[str, str]:
        """Which splits and which column there are to read."""
        import datasets

        path, subset, revision = self._place
        with explained(f"cannot read {path}", hint="the files of a dataset are parquet, jsonl or json.gz"):
            names = datasets.get_dataset_split_names(path, subset, revision=revision)
            train = names[0] if len(names) == 1 else "train"
            first: dict[str, Any] = next(iter(self._load(train)), {}) if train in names else {}
        if train not in names:
            raise OfeError(f"{path} has no split train but {', '.join(names)}")
        texts = [name for name, value in first.items() if isinstance(value, str)]
        named = [name for wanted in TEXT_COLUMNS for name in texts if name.lower() == wanted]
        if not named and len(texts) != 1:
            raise OfeError(f"{path} has no column called {' or '.join(TEXT_COLUMNS)} but {', '.join(first)}")
        held_out = next((name for name in HELD_OUT_SPLITS if name in names), train)
        return {"train": train, "eval": held_out, "column": (named or texts)[0]}

    def _load(self, split: str) -> IterableDataset:
        import datasets

        path, subset, revision = self._place
        return datasets.load_dataset(path, subset, split=split, revision=revision, streaming=True)

    def count(self, split: Split) -> None:
        return None

    def read(self, split: Split, start: int, bookmark: Bookmark = None) -> Iterator[str]:
        assert start == 0 or bookmark, "a stream goes on from its bookmark"
        shared = self.origin["eval"] == self.origin["train"]
        column = self.origin["column"]
        row = characters = 0
        with explained(f"cannot read {self._place.path}"):
            stream = self._load(self.origin[split]).select_columns([column])
            if bookmark:
                row, characters = bookmark["row"], bookmark["characters"]
                stream.load_state_dict(bookmark["state"])
        records = iter(stream)
        while split == "train" or characters < HELD_OUT_CHARACTERS:
            with explained(f"reading {self._place.path} stopped after row {row:,}", hint=AGAIN):
                record = next(records, None)
            if record is None:
                return
            row += 1
            if shared and (row % HELD_OUT_EVERY == 0) != (split == "eval"):
                continue
            text = record[column] or ""
            characters += len(text)
            self._standing[split] = stream, row, characters
            yield text

    def bookmark(self, split: Split) -> dict[str, Any]:
        stream, row, characters = self._standing[split]
        return {"row": row, "characters": characters, "state": stream.state_dict()}

    def tokeniser(self, vocab_size: int, progress: Progress) -> Tokenizer:
        from reproduce.data.text.tokeniser import train_bpe

        progress(f"training a tokeniser of {vocab_size:,} tokens on up to {TOKENISER_CHARACTERS:,} characters")
        return train_bpe(self._sample(progress), vocab_size)

    def _sample(self, progress: Progress) -> Iterator[str]:
        """The first training documents, for the tokeniser."""
        characters = 0
        for number, text in enumerate(self.read("train", 0)):
            yield text
            characters += len(text)
            if number % 1000 == 0:
                progress(Step("reading for the tokeniser", min(characters, TOKENISER_CHARACTERS), TOKENISER_CHARACTERS))
            if characters >= TOKENISER_CHARACTERS:
                return
