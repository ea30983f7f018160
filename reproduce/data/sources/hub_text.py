"""Any dataset of text on the Hugging Face hub, streamed row by row, or a copy of one in a folder.

Of a dataset are read the split `train` (or the only one there is) and one column of text: `data.column`, or the one
that `reproduce.data.columns` finds. A row whose text is null or empty is left out and counted, as is a file of a copy
that has no rows. Held out are the
documents of a split for validation or test where the dataset has one, else every 20th row of the training split;
reading of them ends after 40 million characters, about 10 million tokens. The tokeniser is a byte-level BPE trained on
the first 200 million characters of the training documents. So nothing is stored but tokens.

A preparation that was stopped goes on in the file of the dataset in which it stood: with each shard, the state of the
stream is written down.

`data.path` may name a copy: a folder in any layout that `datasets.load_dataset` recognises (parquet, jsonl, json.gz).
The commit for which a revision such as `main` stands is resolved once, when a preparation starts, holds for all of it,
and is written to meta.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.config import TextData
from reproduce.data.columns import (
    FORMATS,
    TEXT_COLUMNS,
    Place,
    columns_of,
    find_columns,
    find_splits,
    load_stream,
    look_at_files,
    text_column,
    text_of,
)
from reproduce.data.files import digest, find_files
from reproduce.data.hub import copy_of_rows, explained, find_snapshot, may_not_download, without_patterns
from reproduce.data.progress import LeftOut, Progress, Step, left_out, printable
from reproduce.data.text.documents import Bookmark, Split
from reproduce.errors import OfeError, SpecError
from reproduce.units import size

if TYPE_CHECKING:
    from datasets import IterableDataset
    from tokenizers import Tokenizer

HELD_OUT_SPLITS = ("validation", "valid", "dev", "test")
"""Names of the split that is held out, the first that there is."""
HELD_OUT_EVERY = 20
BYTES_PER_TOKEN = 4
"""Of English text in a vocabulary of some ten thousand tokens, about; it only says how much will be downloaded."""
HELD_OUT_CHARACTERS = 40_000_000
TOKENISER_CHARACTERS = 200_000_000
ROWS_WITHOUT_TEXT = 1_000_000
"""Rows of a split after which a column that held no text so far is taken to hold none."""

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
        self.path = None if data.path is None else copy_of_rows(data.path)
        self.copy_subset = data.subset
        self.column = data.column
        self.train_tokens = data.train_tokens

    def identity(self) -> Mapping[str, Any]:
        same: dict[str, Any] = {"source": self.name, "recipe": recipe()}
        if self.column is not None:
            same["column"] = self.column
        if self.path is not None:
            files = find_files(self.path, None, ()).files  # a README may say which files are what
            return same | {"files": digest(files), "subset": self.copy_subset}
        return same | {"dataset": [self.dataset.name, self.dataset.revision, self.dataset.subset]}

    def open(self, *, pinned: Mapping[str, Any] | None, offline: bool, progress: Progress) -> StreamedDocuments:
        if self.path is not None:
            progress(f"looking at the columns of {self.path}")
            description = f"documents of {printable(self.path.name)}"
            place = Place(str(without_patterns(self.path)), self.copy_subset, None)
            documents = StreamedDocuments(description, place, pinned or {}, self.column, self.path)
        else:
            documents = self._open_hub(pinned, offline, progress)
        progress(documents.reading)
        return documents

    def _open_hub(self, pinned: Mapping[str, Any] | None, offline: bool, progress: Progress) -> StreamedDocuments:
        name, subset = self.dataset.name, self.dataset.subset
        progress(f"looking up {name}")
        revision = self.dataset.revision if pinned is None else pinned["commit"]
        offline = may_not_download(offline)
        wanted = None if offline else ["README.md"]
        snapshot = find_snapshot(
            name, revision, copy="a copy of the dataset", offline=offline, wanted=wanted, reads=self._reads()
        )
        place = Place(str(snapshot), subset, None) if offline else Place(name, subset, snapshot.name)
        origin = pinned or {"dataset": name, "commit": snapshot.name}
        return StreamedDocuments(self.dataset.description, place, origin, self.column)

    def _reads(self) -> str:
        """How much of the dataset is read, as far as it is known before it is."""
        if self.train_tokens is None:
            return ""
        return f"of which {self.train_tokens:,} tokens are read, about {size(self.train_tokens * BYTES_PER_TOKEN)}"


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


class StreamedDocuments:
    """Documents of a dataset as they stream by.

    Args:
        description: one line for badges.
        place: where the dataset is.
        origin: what was resolved when the preparation started; completed here by the names of splits and column.
        column: the column that the user says is the text.
        folder: the user's own folder, where the dataset is a copy.

    Raises:
        SpecError: there is no such column, or it holds no text.
        OfeError: the dataset cannot be read, or nothing in it is evidently the text.
    """

    def __init__(
        self,
        description: str,
        place: Place,
        origin: Mapping[str, Any],
        column: str | None = None,
        folder: Path | None = None,
    ) -> None:
        self.description = description
        self._place = place._replace(empty=tuple(origin.get("empty", {}).get("names", ())))
        self._wanted_column = column
        self._folder = folder
        self._standing: dict[Split, tuple[IterableDataset, int, int]] = {}
        self.origin: Mapping[str, Any] = origin if "column" in origin else {**origin, **self._layout()}

    def _layout(self) -> dict[str, Any]:
        """Which splits and which column there are to read, and which files there are not."""
        path = self._place.path
        files = look_at_files(self._place)
        self._place = self._place._replace(empty=files.empty)
        with explained(f"cannot read {path}", FORMATS, folder=self._folder):
            names, empty = find_splits(self._place)
        train = names[0] if len(names) == 1 else "train"
        if train not in names:
            raise OfeError(f"{path} has no split train but {', '.join(names)}")
        if train in empty:
            raise OfeError(
                f"the split {train} of {path} has no rows: its files are all empty",
                hint="take a fresh copy of the data set",
            )
        held_out = next((name for name in HELD_OUT_SPLITS if name in names and name not in empty), train)
        with explained(f"cannot read {path}", FORMATS, folder=self._folder):
            columns = find_columns(self._place, (train, held_out))
        column = text_column(columns.holds, path, self._wanted_column)
        features = {} if columns.features is None else {"features": columns.features}
        skipped = {"empty": {"names": list(files.empty), "of": files.total}} if files.empty else {}
        return {"train": train, "eval": held_out, "column": column, **features, **skipped}

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """The files that have no rows; rows without text come as empty documents, which are counted later."""
        empty = self.origin.get("empty")
        return left_out("files", empty["of"], {"empty": empty["names"]}, lost=False) if empty else ()

    @property
    def reading(self) -> str:
        """What is read, in one line."""
        train, held_out = self.origin["train"], self.origin["eval"]
        held = f"every {HELD_OUT_EVERY}th row" if held_out == train else f"the split {held_out}"
        return f"reading the column {self.origin['column']} of the split {train}; {held} is held out"

    def count(self, split: Split) -> None:
        return None

    def read(self, split: Split, start: int, bookmark: Bookmark = None) -> Iterator[str]:
        assert start == 0 or bookmark, "a stream goes on from its bookmark"
        shared = self.origin["eval"] == self.origin["train"]
        column = self.origin["column"]
        row = characters = 0
        again = AGAIN if self._folder is None else "replace the file in which that row is, or take it out of the folder"
        with explained(f"cannot read {self._place.path}", folder=self._folder):
            stream = load_stream(self._place, self.origin[split], self.origin.get("features"))
            if stream.column_names is None or column in stream.column_names:  # else its rows are without text
                stream = stream.select_columns([column])
            if bookmark:
                row, characters = bookmark["row"], bookmark["characters"]
                stream.load_state_dict(bookmark["state"])
        records = iter(stream)
        while split == "train" or characters < HELD_OUT_CHARACTERS:
            with explained(f"reading {self._place.path} stopped after row {row:,}", again, folder=self._folder):
                record = next(records, None)
            if record is None:
                return
            row += 1
            if shared and (row % HELD_OUT_EVERY == 0) != (split == "eval"):
                continue
            text = text_of(record.get(column))
            characters += len(text)
            self._standing[split] = stream, row, characters
            yield text

    def bookmark(self, split: Split) -> dict[str, Any]:
        stream, row, characters = self._standing[split]
        return {"row": row, "characters": characters, "state": stream.state_dict()}

    def tokeniser(self, vocab_size: int, progress: Progress) -> Tokenizer:
        from reproduce.data.text.tokeniser import train_bpe

        if self.origin["eval"] != self.origin["train"]:
            self._check_held_out()
        progress(f"training a tokeniser of {vocab_size:,} tokens on up to {TOKENISER_CHARACTERS:,} characters")
        return train_bpe(self.sample(progress), vocab_size)

    def sample(self, progress: Progress) -> Iterator[str]:
        """The first training documents, for the tokeniser.

        Raises:
            OfeError: none of them, or none of very many, has any text.
        """
        characters = number = 0
        for number, text in enumerate(self.read("train", 0), start=1):
            yield text
            characters += len(text)
            if number % 1000 == 1:
                progress(Step("reading for the tokeniser", min(characters, TOKENISER_CHARACTERS), TOKENISER_CHARACTERS))
            if characters >= TOKENISER_CHARACTERS or (not characters and number >= ROWS_WITHOUT_TEXT):
                break
        if not characters:
            raise self._no_text("train", number)

    def _check_held_out(self) -> None:
        """Refuse a split of its own without text now, before the training documents are tokenised.

        Raises:
            OfeError: none of its rows, or none of very many, has any text.
        """
        number = 0
        stream = load_stream(self._place, self.origin["eval"])
        if stream.features is None and self.origin["column"] not in columns_of(stream):
            raise self._no_text("eval", 0)  # in a format without types, a missing column cannot be read as nulls
        for number, text in enumerate(self.read("eval", 0), start=1):
            if text:
                return
            if number >= ROWS_WITHOUT_TEXT:
                break
        raise self._no_text("eval", number)

    def _no_text(self, split: Split, rows: int) -> OfeError:
        """What is said where no text was found in `rows` rows of a split."""
        path, name, column = self._place.path, self.origin[split], self.origin["column"]
        with explained(f"cannot read {path}", FORMATS, folder=self._folder):
            columns = find_columns(self._place, (name,)).holds
        listed = ", ".join(columns) or "none at all"
        if column not in columns:
            return OfeError(
                f"the split {name} of {path} has no column called {column} but {listed}",
                hint="give the column of text the same name in all splits of a copy, and set data.path to its folder",
            )
        rows_read, hint = f"{rows:,} training rows", "name the column that holds the text with data.column"
        if split == "eval":
            rows_read = f"{rows:,} rows of the split {name}"
            hint = f"make a copy without that split, in which every {HELD_OUT_EVERY}th row is held out, or {hint}"
        return OfeError(
            f"the column {column} of {path} holds no text:"
            f" it is null, empty or no string in all {rows_read} that were read, whose columns are {listed}",
            hint=hint,
        )
