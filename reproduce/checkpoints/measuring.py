"""Measuring an opened checkpoint on text: its sequences, its metrics, and the tokens on which its worst neurons fire.

A forward pass ends where the output embedding begins. Nobody asks for logits, which take more memory than all else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reproduce.checkpoints.checkpoint import Checkpoint
from reproduce.checkpoints.structure import observing
from reproduce.data.text.sample import open_sample
from reproduce.errors import OfeError, out_of_memory
from reproduce.job_config import MeasureConfig, TextSample
from reproduce.measuring.observer import OutlierObserver, OutlierReading

BATCH_TOKENS = 2048
"""Tokens in one forward pass, unless a user says how many sequences."""
CONTEXT = 8
"""Tokens before a firing one that are shown with it."""
_CHARACTERS = 200_000
"""Characters of a document that are tokenised at once: only so many tokens of it are wanted."""


def sequences(checkpoint: Checkpoint, sample: TextSample, count: int, *, offline: bool = False) -> Tensor:
    """`count` sequences (count, T) of the sample in the checkpoint's tokens.

    Each document is cut into pieces of equal length, the remainder is dropped, and the tokens that the tokenizer adds
    are put around each piece. Where the sample has several kinds of text, their sequences alternate.

    Raises:
        OfeError: the text is too short, the sequences are longer than the model allows, or there is no tokenizer.
    """
    length = sample.seq_len
    if checkpoint.max_length is not None and length > checkpoint.max_length:
        raise OfeError(
            f"sequences of {length:,} tokens are longer than the {checkpoint.max_length:,} positions of the model",
            hint=f"pass --seq-len {checkpoint.max_length}",
            exit_code=2,
        )
    if sample.source == "ids":
        ids = _read_ids(Path(str(sample.path)), checkpoint.vocab_size)
        pieces = iter([piece.tolist() for piece in ids.split(length) if len(piece) == length])
    else:
        kinds = [_pieces(checkpoint, documents, length) for documents in open_sample(sample, offline=offline)]
        pieces = _in_turn(kinds)
    taken = list(islice(pieces, count))
    if len(taken) < count:
        fewer = f"pass --tokens {len(taken) * length}, or " if taken else "pass "
        raise OfeError(
            f"the text gives {len(taken)} whole sequences of {length:,} tokens, and {count} are to be measured",
            hint=f"{fewer}a smaller --seq-len, or more text",
            exit_code=2,
        )
    return torch.tensor(taken, dtype=torch.int64)


def _pieces(checkpoint: Checkpoint, documents: Iterator[str], length: int) -> Iterator[list[int]]:
    tokenizer = checkpoint.tokenizer
    if tokenizer is None:
        checkpoint.tokens("")  # says that there is none
        raise AssertionError
    before, after = tokenizer.around
    body = length - len(before) - len(after)
    for document in documents:
        for start in range(0, len(document), _CHARACTERS):
            tokens = tokenizer.encode(document[start : start + _CHARACTERS])
            for first in range(0, len(tokens) - body + 1, body):
                yield [*before, *tokens[first : first + body], *after]


def _in_turn(kinds: Sequence[Iterator[list[int]]]) -> Iterator[list[int]]:
    """One of each kind after the other; a kind that has ended is passed over."""
    kinds = list(kinds)
    while kinds:
        for kind in list(kinds):
            piece = next(kind, None)
            if piece is None:
                kinds.remove(kind)
            else:
                yield piece


def _read_ids(path: Path, vocab_size: int) -> Tensor:
    """Token indices (n,) in a file of numbers with spaces between them, or in one of NumPy."""
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                ids = np.lib.format.read_array(file, allow_pickle=False)
        else:
            ids = np.array(path.read_text(encoding="utf-8-sig").split(), np.int64)
        if not np.issubdtype(ids.dtype, np.integer):
            raise ValueError("not whole numbers")
        tokens = torch.from_numpy(ids.astype(np.int64).reshape(-1))
    except (OSError, EOFError, OverflowError, SyntaxError, ValueError) as error:  # what NumPy says of damaged files
        hint = "write whole numbers with spaces between them, or an array of NumPy (.npy)"
        raise OfeError(f"{path} holds no token indices", hint=hint, exit_code=2) from error
    if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < vocab_size:
        raise OfeError(f"{path} has token indices outside of the vocabulary of {vocab_size:,}", hint="give others",
                       exit_code=2)  # fmt: skip
    return tokens


@dataclass(frozen=True)
class Measured:
    """What was measured of a checkpoint."""

    reading: OutlierReading
    neurons: list[dict[str, Any]]
    """Layer, neuron, share, and the tokens on which it fires, as `ofe measure --json` has them."""
    shape: tuple[int, int]
    """Sequences and positions."""


def measure_checkpoint(
    checkpoint: Checkpoint,
    tokens: Tensor,
    config: MeasureConfig,
    *,
    batch: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Measured | None:
    """Measure the checkpoint on `tokens` (N, T), or return None if `stop` said so between two batches.

    Args:
        batch: sequences in one forward pass; as many as make 2,048 tokens if None.

    Raises:
        OfeError: the model has not the points that were asked for, or its activations do not fit into the memory.
    """
    observer = OutlierObserver(config.skip_first, config.correlations)
    batch = batch or max(1, BATCH_TOKENS // tokens.shape[1])
    with observing(checkpoint.module, checkpoint.structure, observer, config.points), _without_logits(checkpoint):
        for part in tokens.split(batch):
            if stop():
                return None
            try:
                with suppress(_Enough):
                    checkpoint.forward(part)
            except Exception as error:
                if out_of_memory(error):
                    raise _too_large(batch) from error
                raise
    reading = observer.reading()
    return Measured(reading, _with_tokens(reading, tokens, checkpoint), (tokens.shape[0], tokens.shape[1]))


class _Enough(Exception):
    """The stream has been seen up to the output embedding."""


@contextmanager
def _without_logits(checkpoint: Checkpoint) -> Iterator[None]:
    """A context in which a forward pass ends with `_Enough` instead of computing logits."""

    def end(module: nn.Module, args: Any) -> None:
        raise _Enough

    head = checkpoint.structure.head
    if head is None:
        yield
        return
    handle = head.register_forward_pre_hook(end)
    try:
        yield
    finally:
        handle.remove()


def _too_large(batch: int) -> OfeError:
    hint = "pass --batch 1" if batch > 1 else "pass a smaller --seq-len, or --dtype bfloat16"
    return OfeError("the activations of the model do not fit into the memory", hint=hint)


def _with_tokens(reading: OutlierReading, tokens: Tensor, checkpoint: Checkpoint) -> list[dict[str, Any]]:
    length = tokens.shape[1]
    return [
        {
            "layer": neuron.layer,
            "neuron": neuron.neuron,
            "share": neuron.share,
            "tokens": [
                {
                    "text": _decoded(checkpoint, tokens[at // length, at % length : at % length + 1]),
                    "before": _decoded(checkpoint, tokens[at // length, max(0, at % length - CONTEXT) : at % length]),
                    "position": at % length,
                    "value": value,
                }
                for at, value in neuron.firing
            ],
        }
        for neuron in reading.neurons
    ]


def _decoded(checkpoint: Checkpoint, tokens: Tensor) -> str:
    if checkpoint.tokenizer is None:
        return " ".join(map(str, tokens.tolist()))
    return checkpoint.tokenizer.decode(tokens.tolist())


def check_against_hidden_states(checkpoint: Checkpoint, tokens: Tensor) -> list[str]:
    """The layers whose stream differs from what the model itself returns as its hidden states, on `tokens` (B, T).

    Raises:
        OfeError: the model returns no hidden states.
    """
    seen: dict[str, Tensor] = {}

    def show(point: str, layer: str, x: Tensor) -> None:
        seen[layer] = x

    with torch.no_grad(), observing(checkpoint.module, checkpoint.structure, show):
        if not checkpoint.is_ours:
            states = getattr(checkpoint.call(tokens, output_hidden_states=True), "hidden_states", None)
        else:
            checkpoint.call(tokens)
            states = _encoded(checkpoint, tokens)
    if states is None:
        raise OfeError(f"{type(checkpoint.module).__name__} returns no hidden states to compare with")
    return [
        layer
        for layer, state in zip(checkpoint.structure.layers, states, strict=False)
        if not torch.equal(seen[layer], state)
    ]


def _encoded(checkpoint: Checkpoint, tokens: Tensor) -> list[Tensor]:
    """The streams that a model of ours shows itself."""
    states: list[Tensor] = []

    def observe(point: str, layer: str, x: Tensor) -> None:
        if point == "residual":
            states.append(x)

    module: Any = checkpoint.module
    module.encode(tokens.to(checkpoint.device), observe)
    return states
