"""An opened model: its module, its tokenizer, its blocks, and how it is run on tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from reproduce.checkpoints.identity import Located
from reproduce.checkpoints.library import explained
from reproduce.checkpoints.structure import Structure, find_structure, first_tensor
from reproduce.errors import OfeError
from reproduce.models.transformer import Transformer

_TRIAL_TOKENS = 8
"""Positions of the forward pass in which the blocks are looked for."""


class Tokenizer(Protocol):
    """What is asked of the tokenizer of a checkpoint."""

    def encode(self, text: str) -> list[int]:
        """The tokens of `text`, without any that begin or end a sequence."""
        ...

    def decode(self, tokens: list[int]) -> str:
        """The text that the tokens stand for."""
        ...

    @property
    def around(self) -> tuple[list[int], list[int]]:
        """The tokens that the model was trained to see before and after a sequence, such as BOS, or [CLS] and [SEP]."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """An opened model."""

    module: nn.Module
    """In evaluation mode, on its device."""
    tokenizer: Tokenizer | None
    identity: Located
    """What it is in the cache: a field `parent` of a job's configuration."""
    structure: Structure
    """Its blocks and its output embedding."""
    vocab_size: int
    max_length: int | None
    """Most positions in a sequence; None where the checkpoint sets no limit."""
    unused: tuple[str, ...] = ()
    """Tensors in its files of further blocks than its architecture has, by name."""

    @property
    def device(self) -> torch.device:
        """Where token indices have to be."""
        return next((p.device for p in self.module.parameters() if p.device.type != "meta"), torch.device("cpu"))

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) for `tokens` (B, T), or the last stream (B, T, d) of a model without output embedding."""
        output = first_tensor(self.call(tokens))
        assert output is not None
        return output

    @property
    def is_ours(self) -> bool:
        """Whether the module is one of ours, and not of `transformers`."""
        return isinstance(self.module, Transformer)

    def call(self, tokens: Tensor, **wanted: Any) -> Any:
        """What the module itself returns for `tokens` (B, T)."""
        tokens = tokens.to(self.device)
        if self.is_ours:
            return self.module(tokens)
        return self.module(input_ids=tokens, use_cache=False, **wanted) if self._caches else self.module(
            input_ids=tokens, **wanted
        )  # fmt: skip

    def logits(self, tokens: Tensor) -> Tensor:
        """The logits (B, T, V) for `tokens` (B, T).

        Raises:
            OfeError: the model has no output embedding.
        """
        if self.structure.head is None:
            raise OfeError(f"{type(self.module).__name__} predicts no tokens: it has no output embedding")
        return self.forward(tokens)

    def tokens(self, text: str) -> Tensor:
        """The tokens of `text`, (T,) int64.

        Raises:
            OfeError: the checkpoint has no tokenizer.
        """
        if self.tokenizer is None:
            raise OfeError(
                "this checkpoint has no tokenizer", hint="give token indices with --text-ids FILE", exit_code=2
            )
        return torch.tensor(self.tokenizer.encode(text), dtype=torch.int64)

    @property
    def _caches(self) -> bool:
        """Whether the model would keep keys and values for the tokens that follow, of which there are none here."""
        return hasattr(getattr(self.module, "config", None), "use_cache")


UNKNOWN = Structure("", (), 0, 0, None)
"""The structure of a model before it was run once."""


def structure_of(checkpoint: Checkpoint) -> Structure:
    """The blocks of an opened model, found by one forward pass over a few tokens.

    Raises:
        OfeError: they cannot be found, or the model does not run on tokens.
    """
    vocabulary = max(checkpoint.vocab_size, 1)
    length = min(_TRIAL_TOKENS, checkpoint.max_length or _TRIAL_TOKENS)
    trial = (torch.arange(length) * 7 + 3)[None] % vocabulary  # (1, T)
    name = getattr(checkpoint.identity, "name", "this run")
    if not checkpoint.vocab_size:
        raise OfeError(
            f"{name} reads no tokens ({type(checkpoint.module).__name__} has no vocabulary)",
            hint="measure a model of images in Python, with `outlier_probe(model)` around your own forward passes",
            exit_code=2,
        )

    def run() -> None:
        with explained(name, trust_remote_code=True):
            checkpoint.call(trial)

    return find_structure(checkpoint.module, run)
