"""What a corpus is made from: documents, some of which are held out, and a tokeniser.

TextSource      knows what it would read (cheap: this gives the fingerprint) and can open it
Documents       an opened source: documents of each split in a fixed order, and the tokeniser
TokenDocuments  an opened source whose documents are tokens already

The class of a source and of what it opens is in its module in `reproduce.data.sources`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from reproduce.data.progress import LeftOut, Progress

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer

Split = Literal["train", "eval"]
SPLITS: tuple[Split, ...] = ("train", "eval")
Bookmark = Any
"""JSON by which a source finds its place again; None where the number of documents read suffices."""
Order = Literal["permuted", "listed"]
"""How documents come to their queues in stream packing: in an order drawn from the run's seed, or the listed one."""


class Opened(Protocol):
    """What an opened source says of itself, whatever its documents are."""

    @property
    def description(self) -> str:
        """One line for badges and provenance."""

    @property
    def origin(self) -> Mapping[str, Any]:
        """What was found when the source was opened and must not change while it is read: revisions, row counts."""

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """What of the source was found not to be text when it was opened."""


class Documents(Opened, Protocol):
    """An opened source whose documents are texts."""

    def count(self, split: Split) -> int | None:
        """Documents of a split, where that is known before they have been read."""

    def read(self, split: Split, start: int, bookmark: Bookmark = None) -> Iterator[str]:
        """Documents `start`, `start + 1`, ... of a split, in the same order every time.

        Args:
            bookmark: what `bookmark(split)` said when `start` documents had been read.
        """

    def bookmark(self, split: Split) -> Bookmark:
        """Where reading the split stands: after the document that came last."""

    def tokeniser(self, vocab_size: int, progress: Progress) -> Tokenizer:
        """The tokeniser of this source with (at most, where it is trained here) `vocab_size` tokens."""


@runtime_checkable
class TokenDocuments(Opened, Protocol):
    """An opened source whose documents are tokens."""

    @property
    def vocab_size(self) -> int:
        """Different tokens there may be."""

    @property
    def end_of_document(self) -> int | None:
        """The token that follows a document in a stream; None where the vocabulary has none."""

    @property
    def order(self) -> Order:
        """How documents come to their queues."""

    @property
    def vocabulary(self) -> tuple[str, bytes]:
        """Name and content of the file that says what the tokens are, for the prepared folder."""

    def count(self, split: Split) -> int | None:
        """As in `Documents`."""

    def read_tokens(self, split: Split, start: int, bookmark: Bookmark = None) -> Iterator[list[np.ndarray]]:
        """Documents `start`, `start + 1`, ... of a split, each (n,) token ids, in batches that fit in memory.

        The batches from a `start` on are the same every time.
        """

    def bookmark(self, split: Split) -> Bookmark:
        """Where reading the split stands: after the last document of the batch that came last."""


class TextSource(Protocol):
    """A source as `TextData` configures it, before anything is read."""

    def identity(self) -> Mapping[str, Any]:
        """JSON that determines the documents, their order and the tokeniser, the vocabulary's size apart."""

    def open(self, *, pinned: Mapping[str, Any] | None, offline: bool, progress: Progress) -> Documents:
        """Open the source, at the `origin` that an interrupted preparation wrote down where there is one."""
