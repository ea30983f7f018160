from __future__ import annotations

import numpy as np

from reproduce.data.tokeniser import END_OF_DOCUMENT, chunk, token_dtype, train_bpe

from .conftest import make_text


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


def test_documents_are_cut_exactly_and_their_remainders_dropped() -> None:
    tokenizer = train_bpe(["."], 257)  # one token a byte
    chunks = chunk(tokenizer, ["abcdefg", "xy", "", "123456"], seq_len=3)
    assert chunks.dtype == np.uint16
    assert [tokenizer.decode(row) for row in chunks.tolist()] == ["abc", "def", "123", "456"]


def test_no_document_gives_no_sequence() -> None:
    assert chunk(train_bpe(["."], 257), ["ab", ""], seq_len=3).shape == (0, 3)


def test_tokens_fit_their_type() -> None:
    assert token_dtype(65_536) == np.uint16
    assert token_dtype(65_537) == np.uint32
