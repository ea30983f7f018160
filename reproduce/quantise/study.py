"""A quantisation as a whole: every row and width that a configuration asks for, evaluated on the same text."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from reproduce.job_config import QuantiseConfig
from reproduce.processes import StopAsked
from reproduce.quantise import protocol
from reproduce.quantise.decoder import Decoder
from reproduce.quantise.evaluation import Logits, mean_loss, tensor_losses
from reproduce.quantise.lab import Lab, NotApplicable
from reproduce.quantise.quantisers import Scheme

KL_SEQUENCES = 2
"""Sequences on which single tensors are quantised."""


@dataclass(frozen=True)
class Subject:
    """A model that is to be quantised, and the text that belongs to it."""

    model: nn.Module
    """In full precision, in evaluation mode."""
    logits: Logits
    evaluation: Sequence[Tensor]
    """Batches of held-out tokens (B, T)."""
    calibration: Callable[[int], Sequence[Tensor]]
    """Calibration batches of each seed."""
    other_text: Sequence[Tensor] = ()
    random_tokens: Sequence[Tensor] = ()


@dataclass
class Findings:
    """What a quantisation found."""

    loss: float
    """Mean loss in full precision, in nats a token."""
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Row -> loss, ppl, weight_bits, flops; or why the method does not apply: `refused`."""
    widths: dict[int, list[float]] = field(default_factory=dict)
    """Bits -> perplexity by the published protocol with each calibration seed."""
    quantisers: int | None = None
    """Number of quantisers of the published protocol."""
    tensors: list[dict[str, Any]] = field(default_factory=list)
    """What is lost of each tensor alone, the most first."""

    def width_metrics(self) -> dict[str, float]:
        """Mean and standard deviation over calibration seeds, by the names of `reproduce.metrics.table`."""
        metrics: dict[str, float] = {}
        for bits, found in self.widths.items():
            metrics[f"w{bits}a{bits}_ppl"] = statistics.fmean(found)
            if len(found) > 1 and all(map(math.isfinite, found)):
                metrics[f"w{bits}a{bits}_ppl_std"] = statistics.stdev(found)
        return metrics


def study(subject: Subject, config: QuantiseConfig, stop: StopAsked) -> Findings | None:
    """Evaluate every row and width of `config`, or return None if `stop` asks for it in between."""
    found = Findings(mean_loss(subject.model, subject.evaluation, subject.logits))
    for bits in config.widths:
        assert isinstance(subject.model, Decoder)
        found.widths[bits] = []
        for seed in range(config.seeds):
            if stop():
                return None
            made = protocol.quantise(subject.model, bits, bits).calibrate(subject.calibration(seed))
            found.quantisers = len(made)
            found.widths[bits].append(perplexity(mean_loss(made.decoder, subject.evaluation, subject.logits)))

    lab = Lab(
        subject.model,
        subject.calibration(0),
        subject.other_text,
        subject.random_tokens,
        weights=config.weights,
        activations=config.activations,
        run=subject.logits,
        length=subject.evaluation[0].shape[1],
    )
    for row in config.rows:
        if stop():
            return None
        try:
            made_row = lab.prepare(row)
        except NotApplicable as reason:
            found.rows[row] = {"refused": str(reason)}
            continue
        loss = mean_loss(made_row.model, subject.evaluation, subject.logits)
        found.rows[row] = {
            "loss": loss,
            "ppl": perplexity(loss),
            "weight_bits": made_row.weight_bits,
            "flops": made_row.flops,
            "note": lab.notes.get(row, ""),
        }
    if config.tensors:
        schemes = Scheme(config.weights), Scheme(config.activations, "asymmetric")
        few = subject.evaluation[0][:KL_SEQUENCES]
        losses = tensor_losses(subject.model, few, subject.logits, *schemes, count=config.tensors)
        found.tensors = [asdict(one) for one in losses]
    return found


def perplexity(loss: float) -> float:
    """exp(loss), infinite where that is too large for a number."""
    return math.exp(loss) if loss < 700 else math.inf
