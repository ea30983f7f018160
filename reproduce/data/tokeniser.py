"""Tokenisers: a byte-level BPE trained here, and documents cut into exact sequences of its tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_DOCUMENT = "<|endoftext|>"


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
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest unsigned type that holds every token: 16 bits up to 65,536 tokens."""
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)


def chunk(tokenizer: Tokenizer, texts: Sequence[str], seq_len: int) -> np.ndarray:
    """Each document cut into exact sequences, its remainder dropped, as the authors' code does.

    Returns:
        (N, seq_len) token ids; no sequence crosses from one document into the next.
    """
    dtype = token_dtype(tokenizer.get_vocab_size())
    pieces = [np.empty((0, seq_len), dtype)]
    for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False):
        whole = len(encoding.ids) // seq_len
        pieces.append(np.array(encoding.ids[: whole * seq_len], dtype).reshape(whole, seq_len))
    return np.concatenate(pieces)
