from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

from reproduce.data.text import tokeniser
from reproduce.data.text.documents import SPLITS
from reproduce.data.text.local import LocalDocuments
from reproduce.data.text.tokeniser import END_OF_DOCUMENT, TokenisedText, encode, token_dtype, train_bpe

from ..conftest import make_text


def test_two_trainings_give_the_same_file() -> None:
    texts = [make_text(seed) for seed in range(20)]
    assert train_bpe(texts, 400).to_str() == train_bpe(iter(texts), 400).to_str()


def test_any_text_survives_the_round_trip() -> None:
    tokenizer = train_bpe([make_text(0)], 320)
    text = "naïve\ttext\r\n\n  with 数 and \N{SNOWMAN}"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_vocabulary_starts_with_the_end_of_document_and_all_bytes() -> None:
    vocabulary = train_bpe([make_text(0)], 300).get_vocab()
    assert vocabulary[END_OF_DOCUMENT] == 0
    assert len(vocabulary) == 300
    assert train_bpe(["a"], 300).get_vocab_size() == 257


def test_texts_become_tokens_of_the_smallest_type_and_nothing_is_added() -> None:
    tokenizer = train_bpe(["."], 257)  # one token a byte
    encoded = encode(tokenizer, ["abc", "", "é"])
    assert [tokens.dtype for tokens in encoded] == [np.uint16] * 3
    assert [len(tokens) for tokens in encoded] == [3, 0, 2]
    assert tokenizer.decode(encoded[0].tolist()) == "abc"


def test_batches_are_bounded_by_documents_and_by_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokeniser, "BATCH_DOCUMENTS", 3)
    monkeypatch.setattr(tokeniser, "BATCH_CHARACTERS", 100)
    texts = {f"{number:02}": "x" * (150 if number == 4 else 10) for number in range(8)}
    documents = LocalDocuments("some", texts)
    tokenised = TokenisedText(documents, train_bpe(["."], 257))
    for split in SPLITS:
        sizes = [[len(tokens) for tokens in batch] for batch in tokenised.read_tokens(split, 0)]
        assert [size for batch in sizes for size in batch] == [len(text) for text in documents.read(split, 0)]
        assert all(len(batch) <= 3 and sum(batch[:-1]) < 100 for batch in sizes)
    assert tokenised.end_of_document == 0
    assert tokenised.vocabulary[0] == "tokenizer.json"


def test_tokens_fit_their_type() -> None:
    assert token_dtype(65_536) == np.uint16
    assert token_dtype(65_537) == np.uint32


@pytest.mark.parametrize("word", ["ACGT" * 50_000, " " * 200_000, "0" * 200_000])
def test_a_word_without_end_is_cut(word: str) -> None:
    text = f"before {word} after"
    pieces = list(tokeniser._cut(text))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) < tokeniser.LONGEST_WORD + 20
    assert train_bpe([text], 270).get_vocab_size() <= 270


def test_text_of_ordinary_words_is_one_piece() -> None:
    assert list(tokeniser._cut(make_text(3))) == [make_text(3)]


def test_training_can_be_interrupted() -> None:
    """The library hears no signal while it trains. The thread that waits for it does."""
    begun = threading.Event()

    def never_ends(*_: object) -> None:
        begun.set()
        time.sleep(60)

    def interrupt() -> None:
        begun.wait(30)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of pytest-xdist ignores it
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            tokeniser._interruptible(never_ends)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - start < 30
