"""CodeParrot, the paper's Python code, as the authors' code takes it from the Hugging Face hub.

The paper names transformersbook/codeparrot-train. The authors' code reads huggingface-course/codeparrot-ds-train and
-valid, the part of it that uses the common data-science packages, which settles the splits and the tokeniser; so
does this module. It draws the same 100,000 training and 2,000 held-out documents as theirs, which shuffles with seed
0 and takes the first: a permutation of the row numbers, so that rows can be picked while they stream by.

`data.path` may name a copy instead: a folder with the splits `train` and `valid` in any layout that
`datasets.load_dataset` recognises (json.gz, jsonl, parquet) and one tokenizer.json.

The commits of the three repositories are not pinned here: their hashes were out of reach when this was written, so
the constants below say `main`. What `main` stood for is resolved once, when a preparation starts, holds for all of
it, and is written to meta.json. To pin a commit, put its hash in place of `main`; the fingerprint follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reproduce.config import TextData
from reproduce.data.columns import (
    Place,
    columns_of,
    find_columns,
    load_stream,
    look_at_files,
    no_text,
    text_of,
    without_text,
)
from reproduce.data.files import digest, find_files
from reproduce.data.hub import copy_of_rows, explained, find_snapshot, may_not_download, reaching, without_patterns
from reproduce.data.progress import LeftOut, Progress, left_out
from reproduce.data.sources.hub_text import AGAIN
from reproduce.data.text.documents import SPLITS, Bookmark, Split
from reproduce.errors import OfeError, SpecError

if TYPE_CHECKING:
    from datasets import IterableDataset
    from tokenizers import Tokenizer

DATASETS: dict[Split, str] = {
    "train": "huggingface-course/codeparrot-ds-train",
    "eval": "huggingface-course/codeparrot-ds-valid",
}
DATASET_REVISIONS: dict[Split, str] = {"train": "main", "eval": "main"}
TOKENISER = "huggingface-course/code-search-net-tokenizer"
TOKENISER_REVISION = "main"
ROWS: dict[Split, int] = {"train": 606_720, "eval": 3_322}
"""Rows of the two datasets; the permutation that draws the documents depends on them."""
DOCUMENTS: dict[Split, int] = {"train": 100_000, "eval": 2_000}
"""Documents drawn from each, or all of a copy that has fewer."""
SPLIT_NAMES: dict[Split, str] = {"train": "train", "eval": "validation"}
TEXT_COLUMN = "content"


class CodeParrot:
    """The hub's datasets, or a copy of them in `data.path`."""

    def __init__(self, data: TextData) -> None:
        self.vocab_size = data.vocab_size
        self.path = None if data.path is None else copy_of_rows(data.path)

    def identity(self) -> Mapping[str, Any]:
        drawn = {"source": "codeparrot", "documents": DOCUMENTS, "draw": "permutation, seed 0", "column": TEXT_COLUMN}
        if self.path is not None:
            return drawn | {"files": digest(find_files(self.path, None, ()).files)}
        return drawn | {
            "datasets": [DATASETS, DATASET_REVISIONS],
            "tokeniser": [TOKENISER, TOKENISER_REVISION],
            "rows": ROWS,
        }

    def open(self, *, pinned: Mapping[str, Any] | None, offline: bool, progress: Progress) -> HubDocuments:
        if self.path is not None:
            return _open_copy(without_patterns(self.path), pinned, progress)
        return _open_hub(pinned, offline, progress)


def _open_copy(path: Path, pinned: Mapping[str, Any] | None, progress: Progress) -> HubDocuments:
    tokenisers = sorted(path.rglob("tokenizer.json"))
    if len(tokenisers) != 1:
        raise OfeError(
            f"{path} holds {len(tokenisers)} files called tokenizer.json instead of one",
            hint=f"put the tokenizer.json of {TOKENISER} into it",
        )
    places = dict.fromkeys(SPLITS, str(path))
    if pinned is None:
        progress(f"counting the rows of {path}")
        pinned = {"rows": {split: _count_rows(places[split], split) for split in SPLITS}}
    files = look_at_files(Place(str(path), None, None))
    left = left_out("files", files.total, {"empty": list(files.empty)}, lost=False)
    return HubDocuments(f"documents of {path.name} in CodeParrot's layout", places, {}, tokenisers[0], pinned, left)


def _open_hub(pinned: Mapping[str, Any] | None, offline: bool, progress: Progress) -> HubDocuments:
    from huggingface_hub import hf_hub_download

    offline = may_not_download(offline)
    revisions = DATASET_REVISIONS if pinned is None else pinned["datasets"]
    tokeniser_revision = TOKENISER_REVISION if pinned is None else pinned["tokeniser"]
    progress(f"looking up {', '.join(DATASETS.values())} and {TOKENISER}")
    wanted, copy = None if offline else ["README.md"], "a copy of the datasets"
    snapshots = {
        split: find_snapshot(
            DATASETS[split],
            revisions[split],
            copy=copy,
            offline=offline,
            wanted=wanted,
            reads=f"{ROWS[split]:,} files of code, all of which are downloaded",
        )
        for split in SPLITS
    }
    with reaching(TOKENISER, copy, offline) as alone:
        tokeniser = Path(
            hf_hub_download(TOKENISER, "tokenizer.json", revision=tokeniser_revision, local_files_only=alone)
        )
    commits = {split: snapshot.name for split, snapshot in snapshots.items()}
    origin = {"datasets": commits, "tokeniser": tokeniser.parent.name, "rows": ROWS}
    places = {split: str(snapshots[split]) if offline else DATASETS[split] for split in SPLITS}
    return HubDocuments(
        f"CodeParrot Python ({DATASETS['train']})", places, {} if offline else commits, tokeniser, origin
    )


def _stream(place: str, revision: str | None, split: Split) -> IterableDataset:
    """One split of a hub dataset or of a local folder, row by row, nothing stored."""
    layout = "files of a split are json.gz, jsonl or parquet, and their names or folders say train or valid"
    with explained(f"cannot read the split {SPLIT_NAMES[split]} of {place}", hint=layout):
        where = Place(place, None, revision)
        if revision is None:  # a folder, whose files may differ in their columns
            where = where._replace(empty=look_at_files(where).empty)
            columns, features = find_columns(where, [SPLIT_NAMES[split]])
            stream = load_stream(where, SPLIT_NAMES[split], features)
        else:
            stream = load_stream(where, SPLIT_NAMES[split])
            columns = columns_of(stream)
    if TEXT_COLUMN not in columns:
        raise OfeError(f"{place} has no column {TEXT_COLUMN!r} but {', '.join(columns)}")
    if no_text(columns[TEXT_COLUMN]):
        raise OfeError(without_text(TEXT_COLUMN, place, columns[TEXT_COLUMN]))
    return stream.select_columns([TEXT_COLUMN])


def _count_rows(place: str, split: Split) -> int:
    tables = _stream(place, None, split).with_format("arrow").iter(batch_size=1000)
    with explained(f"cannot read the split {SPLIT_NAMES[split]} of {place}"):
        return sum(table.num_rows for table in tables)


class HubDocuments:
    """Documents drawn from two streamed splits; a drawn row whose text is null or empty is an empty document.

    Args:
        description: one line for badges.
        places: per split, a hub dataset or a local folder.
        commits: per split, the commit to read of a hub dataset.
        tokeniser: the tokenizer.json that belongs to the data.
        origin: what was resolved when the preparation started; `rows` is the number of rows of each split.
        left_out: the files of a copy that have no rows.
    """

    def __init__(
        self,
        description: str,
        places: Mapping[Split, str],
        commits: Mapping[Split, str],
        tokeniser: Path,
        origin: Mapping[str, Any],
        left_out: Sequence[LeftOut] = (),
    ) -> None:
        self.description = description
        self.left_out = left_out
        self.origin = origin
        self._places, self._commits, self._tokeniser = places, commits, tokeniser

    def count(self, split: Split) -> int:
        return min(self.origin["rows"][split], DOCUMENTS[split])

    def drawn_rows(self, split: Split) -> np.ndarray:
        """Numbers of the rows that are documents, ascending: those the authors' shuffle puts first."""
        order = np.random.default_rng(0).permutation(self.origin["rows"][split])
        return np.sort(order[: self.count(split)])

    def read(self, split: Split, start: int, bookmark: Bookmark = None) -> Iterator[str]:
        rows = self.drawn_rows(split)[start:].tolist()
        if not rows:
            return
        place = self._places[split]
        stream = enumerate(_stream(place, self._commits.get(split), split).skip(rows[0]), start=rows[0])
        for row in rows:
            with explained(f"reading {place} stopped before row {row:,}", hint=AGAIN):
                record = next((record for number, record in stream if number == row), None)
            if record is None:
                raise OfeError(f"{place} has fewer rows than the {self.origin['rows'][split]:,} expected")
            yield text_of(record.get(TEXT_COLUMN))

    def bookmark(self, split: Split) -> None:
        return None

    def tokeniser(self, vocab_size: int, progress: Progress) -> Tokenizer:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self._tokeniser))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        size = tokenizer.get_vocab_size()
        if size != vocab_size:
            raise SpecError(
                f"the tokeniser of codeparrot has {size:,} tokens, not {vocab_size:,}",
                hint=f"set data.vocab_size={size}",
            )
        return tokenizer
