"""The language-modelling task: batches of text, their loss, the held-out evaluation and the probe batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from reproduce.config import RunConfig, TextData, TransformerConfig
from reproduce.models.transformer import Observer, Transformer
from reproduce.parallel import group
from reproduce.parallel.shares import shared_parts
from reproduce.training.augment import generator


@dataclass(frozen=True)
class DroppedTokens:
    """A training batch of a model with dropout."""

    tokens: Tensor
    """(B, T) int64."""
    keys: Tensor
    """(B,) int64 keys of dropout, which depend on the seed, the step and the place in the batch."""

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, part: slice) -> DroppedTokens:
        return DroppedTokens(self.tokens[part], self.keys[part])


class TextBatches(Protocol):
    """What a language task asks of its text: batches of token ids (B, T) int64. `reproduce.data.TextCorpus` is one."""

    def batch(self, seed: int, step: int, batch_size: int) -> np.ndarray: ...

    def eval_batch(self, index: int, batch_size: int) -> np.ndarray: ...

    def probe_batch(self, batch_size: int) -> np.ndarray: ...


class LanguageTask:
    """Next-token prediction on sequences of T tokens, of which all but the first are predicted.

    Args:
        micro_batch: number of sequences in one forward pass of an evaluation; the whole batch if None.
    """

    def __init__(
        self, config: RunConfig, corpus: TextBatches, device: torch.device, micro_batch: int | None = None
    ) -> None:
        assert isinstance(config.model, TransformerConfig)
        self.dropout = config.model.dropout
        assert isinstance(config.data, TextData)
        self.config, self.corpus, self.device = config, corpus, device
        self.micro_batch = micro_batch
        self.model = Transformer(config.model, config.data.vocab_size, config.data.seq_len)
        self.tokens_per_step = config.batch_size * config.data.seq_len
        # The probe batch (P, T) is the same at every step, which makes the curves of the metrics comparable over time.
        self._held_out = self._tensor(corpus.probe_batch(config.probe.batch_size))

    def _tensor(self, tokens: np.ndarray) -> Tensor:
        return torch.from_numpy(tokens).to(self.device, non_blocking=True)

    def batch(self, step: int) -> Tensor | DroppedTokens:
        """Tokens (B, T) int64 of update number `step`. They depend on the seed and the step alone."""
        seed, size = self.config.seed, self.config.batch_size
        tokens = self._tensor(self.corpus.batch(seed, step, size))
        if not self.dropout:
            return tokens
        return DroppedTokens(tokens, self._tensor(generator(seed, step, 3).integers(2**32, size=size)))

    def loss(self, batch: Tensor | DroppedTokens) -> Tensor:
        """Mean cross entropy over the predicted tokens in nats per token, (b, T) -> ()."""
        if isinstance(batch, DroppedTokens):
            return self.model.next_token_loss(batch.tokens, batch.keys)
        return self.model.next_token_loss(batch)

    def train_metrics(self) -> dict[str, float]:
        """Metrics of the training batches beside their loss. Language modelling has none."""
        return {}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Mean cross entropy in nats per token over `eval.batches` held-out batches, divided among the processes."""
        losses = [self._mean_loss(index) for index in range(self.config.eval.batches)]
        return {"loss": group.added(float(torch.stack(losses).mean()))}

    def _mean_loss(self, index: int) -> Tensor:
        """What this process's sequences contribute to the mean cross entropy of one held-out batch, -> ()."""
        batch = self._tensor(self.corpus.eval_batch(index, self.config.batch_size))
        parts = shared_parts(batch, self.micro_batch)
        # The mean over sequences is that over tokens, since all are equally long. Sums are float64, so that the result
        # hardly depends on how the batch is cut into parts.
        return torch.stack([self.loss(part).double() * len(part) for part in parts]).sum() / len(batch)

    def probe_batch(self, step: int) -> Tensor | DroppedTokens:
        """The fixed held-out batch (P, T). With `probe.on: train-batch`, the batch (B, T) of update number `step`."""
        return self._held_out if self.config.probe.on == "held-out" else self.batch(step)

    def encode(
        self, batch: Tensor | DroppedTokens, observe: Observer | None = None, blocks: int | None = None
    ) -> Tensor:
        """The residual stream (b, T, d) after `blocks` blocks, or the input of the unembedding if None.

        Args:
            batch: tokens (b, T). Nothing is dropped, although `batch` may be a training batch with keys of dropout.
            observe: is shown each named point on the way, see `Transformer.encode`.
        """
        tokens = batch.tokens if isinstance(batch, DroppedTokens) else batch
        return self.model.encode(tokens, observe, blocks)
