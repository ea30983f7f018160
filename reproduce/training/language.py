"""The language-modelling task: how text becomes batches, a loss, an evaluation and a probe."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reproduce.config import RunConfig, TextData, TransformerConfig
from reproduce.data import TextCorpus
from reproduce.models.transformer import Observer, Transformer
from reproduce.parallel import group
from reproduce.parallel.shares import shared_parts


class LanguageTask:
    """Next-token prediction on sequences of a fixed length T, of which T - 1 tokens are predicted.

    Args:
        micro_batch: examples that an evaluation takes through the model at once; a whole batch if None.
    """

    def __init__(
        self, config: RunConfig, corpus: TextCorpus, device: torch.device, micro_batch: int | None = None
    ) -> None:
        assert isinstance(config.model, TransformerConfig)
        assert isinstance(config.data, TextData)
        self.config, self.corpus, self.device = config, corpus, device
        self.micro_batch = micro_batch
        self.model = Transformer(config.model, config.data.vocab_size, config.data.seq_len)
        self.tokens_per_step = config.batch_size * config.data.seq_len
        self._held_out = self._tensor(corpus.probe_batch(config.probe.batch_size))

    def _tensor(self, tokens: np.ndarray) -> Tensor:
        return torch.from_numpy(tokens).to(self.device, non_blocking=True)

    def batch(self, step: int) -> Tensor:
        """Tokens (B, T) of the update number `step`; a function of the seed and the step alone."""
        return self._tensor(self.corpus.batch(self.config.seed, step, self.config.batch_size))

    def loss(self, tokens: Tensor) -> Tensor:
        """Mean cross entropy (nats per token) over the predicted tokens of (b, T)."""
        logits = self.model(tokens)[:, :-1]
        return F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())

    def train_metrics(self) -> dict[str, float]:
        """What is recorded of the training batches beside their loss, which for language is nothing."""
        return {}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Mean cross entropy over the held-out batches, each shared among the processes."""
        losses = [self._mean_loss(index) for index in range(self.config.eval.batches)]
        return {"loss": group.added(float(torch.stack(losses).mean()))}

    def _mean_loss(self, index: int) -> Tensor:
        """The part of one held-out batch's mean cross entropy, shape (), that this process's examples contribute."""
        batch = self._tensor(self.corpus.eval_batch(index, self.config.batch_size))
        parts = shared_parts(batch, self.micro_batch)
        return torch.stack([self.loss(part).double() * len(part) for part in parts]).sum() / len(batch)

    def probe_batch(self, step: int) -> Tensor:
        """The fixed held-out batch, or the batch that update number `step` trains on where `probe.on` asks for it."""
        return self._held_out if self.config.probe.on == "held-out" else self.batch(step)

    def encode(self, tokens: Tensor, observe: Observer | None = None, blocks: int | None = None) -> Tensor:
        return self.model.encode(tokens, observe, blocks)
