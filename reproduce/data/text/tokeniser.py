"""Tokenisers: a byte-level BPE trained here, and documents turned into tokens."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from reproduce.data.progress import LeftOut
from reproduce.data.text.documents import Bookmark, Documents, Order, Split

END_OF_DOCUMENT = "<|endoftext|>"
TOKENISER_FILE = "tokenizer.json"

BATCH_DOCUMENTS = 64
"""Documents tokenised together, in parallel."""
BATCH_CHARACTERS = 2**22
"""Characters tokenised together, or one longer document: they bound the memory that encodings take."""

LONGEST_WORD = 4_096
"""Characters of a word, or of a gap between words, after which it is cut for the training of a tokeniser."""
_LONG_RUN = re.compile(rf"\S{{{LONGEST_WORD}}}|\s{{{LONGEST_WORD}}}")


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE with GPT-2's split pattern, the same for the same texts in the same order.

    Token 0 marks the end of a document; chunk packing never emits it. Little text gives fewer tokens than
    `vocab_size`: no pair of tokens that occurs once is merged.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_OF_DOCUMENT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    pieces = (piece for text in texts for piece in _cut(text))
    _interruptible(lambda: tokenizer.train_from_iterator(pieces, trainer))
    return tokenizer


def _interruptible(work: Callable[[], None]) -> None:
    """Do `work` in a thread, so that this one hears signals while the library hears none."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)  # which does not keep the process when this thread is stopped
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    if failed:
        raise failed[0]


def _cut(text: str) -> Iterator[str]:
    """The text in pieces none of which holds a word, or a gap, of more than `LONGEST_WORD` characters.

    Training takes time that is quadratic in the length of a word: a megabyte without a space (base64, minified code,
    genomes) would never end. Text without such words is one piece.
    """
    start = 0
    for run in _LONG_RUN.finditer(text):
        yield text[start : run.end()]
        start = run.end()
    if start < len(text):
        yield text[start:]


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest unsigned type that holds every token: 16 bits up to 65,536 tokens."""
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """The tokens of each text, (n,), without any that the tokeniser would add around them."""
    dtype = token_dtype(tokenizer.get_vocab_size())
    return [np.array(one.ids, dtype) for one in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


class TokenisedText:
    """Documents as tokens of a tokeniser: the `TokenDocuments` of a source of text."""

    order: Order = "permuted"

    def __init__(self, documents: Documents, tokenizer: Tokenizer) -> None:
        self._documents, self._tokenizer = documents, tokenizer

    @property
    def description(self) -> str:
        return self._documents.description

    @property
    def origin(self) -> Mapping[str, Any]:
        return self._documents.origin

    @property
    def left_out(self) -> Sequence[LeftOut]:
        return self._documents.left_out

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    @property
    def end_of_document(self) -> int | None:
        return self._tokenizer.token_to_id(END_OF_DOCUMENT)

    @property
    def vocabulary(self) -> tuple[str, bytes]:
        return TOKENISER_FILE, self._tokenizer.to_str(pretty=True).encode()

    def count(self, split: Split) -> int | None:
        return self._documents.count(split)

    def read_tokens(self, split: Split, start: int, bookmark: Bookmark = None) -> Iterator[list[np.ndarray]]:
        batch: list[str] = []
        characters = 0
        for text in self._documents.read(split, start, bookmark):
            batch.append(text)
            characters += len(text)
            if len(batch) >= BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
                yield encode(self._tokenizer, batch)
                batch, characters = [], 0
        if batch:
            yield encode(self._tokenizer, batch)

    def bookmark(self, split: Split) -> Bookmark:
        return self._documents.bookmark(split)
