"""Estimates against what torch and the training code really allocate and write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from reproduce.cadence import moment_steps, probe_steps
from reproduce.metrics.table import STREAM_METRICS
from reproduce.models.transformer import Transformer
from reproduce.optim import build_optimizer
from reproduce.optim.records import OPTIMIZERS
from reproduce.plan.footprint import _trace_values as trace_values
from reproduce.plan.footprint import activation_bytes, footprint, logits_bytes
from reproduce.specs.runs import ResolvedRun
from tests.plan.saved import saved_bytes

MakeRun = Callable[..., ResolvedRun]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("gains", ["fixed", "vector"])
def test_optimiser_state_is_exact(name: str, gains: str, make_run: MakeRun) -> None:
    block = {"pre_qk": "ln", "pre_v": "ln", "pre_mlp": "rms", "gains": gains}
    model = {"width": 16, "biases": "all", "block": block}
    limit = {"max_precond_dim": 64} if "max_precond_dim" in OPTIMIZERS[name].reads else {}
    config = make_run(model=model, optimizer={"name": name} | limit).config
    module = Transformer(config.model, 300, 16)
    optimizer = build_optimizer(config.optimizer, module)
    for _ in range(2):
        F.cross_entropy(module(torch.zeros(2, 16, dtype=torch.long)).flatten(0, 1), torch.arange(32)).backward()
        optimizer.step()
    tensors = [value for state in optimizer.state.values() for key, value in state.items() if torch.is_tensor(value)]
    counted = [tensor for tensor in tensors if tensor.ndim > 0 or name != "adamw"]  # AdamW counts its steps in a tensor
    assert footprint(config).optimizer == sum(tensor.nbytes for tensor in counted)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "model",
    [
        {},
        {"block": {"post_qk": "rms", "gains": "vector"}},
        {"block": {"post_norm": "ln"}, "activation": "gelu"},
        {"block": {"tanh_cap": 30.0}},
        *({"block": {"pre_qk": norm, "pre_v": norm, "pre_mlp": norm}} for norm in ("ln", "rms", "srms")),
    ],
)
def test_activations_come_within_a_third(precision: str, model: dict[str, Any], make_run: MakeRun) -> None:
    config = make_run(
        model={"layers": 4, "width": 128, "heads": 4, "biases": "qk"} | model,
        data={"seq_len": 64, "vocab_size": 512},
        batch_size=8,
        precision=precision,
    ).config
    module = Transformer(config.model, 512, 64)
    tokens = torch.zeros(8, 64, dtype=torch.long)

    def loss() -> torch.Tensor:
        return module.next_token_loss(tokens)

    measured = saved_bytes(module, loss, precision)
    # The logits are gone when the forward pass ends, so the hooks do not see them.
    assert activation_bytes(config, 8) - logits_bytes(config, 8) == pytest.approx(measured, rel=1 / 3)


def test_logits_take_no_more_memory_with_more_examples(make_run: MakeRun) -> None:
    """256 rows of 50,000 logits, in float32 and, beside that, in bfloat16."""
    config = make_run(data={"seq_len": 128, "vocab_size": 50_000}, batch_size=32, precision="bf16").config
    assert logits_bytes(config, 1) == 128 * 50_000 * 6
    assert logits_bytes(config, 2) == logits_bytes(config, 32) == 256 * 50_000 * 6
    assert logits_bytes(config, 32, "cuda") == logits_bytes(config, 64, "cuda") == 1342 * 50_000 * 6
    full = make_run(data={"seq_len": 128, "vocab_size": 50_000}, batch_size=32, precision="fp32").config
    assert logits_bytes(full, 32) == 256 * 50_000 * 4  # the softmax is taken in place


@pytest.mark.parametrize(("steps", "every"), [(1, 1), (20, 5), (2000, 50)])
def test_moments_are_counted_where_training_keeps_them(steps: int, every: int, make_run: MakeRun) -> None:
    config = make_run(steps=steps, probe={"every": every}).config
    per_probe = 3 * config.model.width  # two blocks and the unembedding
    assert trace_values(config)[1] == per_probe * len(moment_steps(steps, every))


def test_a_sealed_trace_is_about_as_large_as_said(make_run: MakeRun, tmp_path: Path) -> None:
    import random

    from reproduce.store.parquet import trace_bytes
    from reproduce.store.trace import TraceWriter, read_rows

    config = make_run(steps=1000, model={"layers": 6}).config
    values = random.Random(0)
    with TraceWriter(tmp_path) as trace:
        for step in range(1000):
            trace.record(step, "train", {name: values.random() for name in ("loss", "grad_norm", "lr")})
        for step in probe_steps(config.last_step, config.probe.every):
            layers = [*map(str, range(1, 7)), "unembed"]
            trace.record(step, "probe", {name: {layer: values.random() for layer in layers} for name in STREAM_METRICS})
    took = len(trace_bytes(read_rows(tmp_path)))
    expected = footprint(config.model_copy(update={"model": config.model.model_copy(update={"width": 0})})).trace
    assert expected == pytest.approx(took, rel=0.5)
    live = (tmp_path / "trace.jsonl").stat().st_size
    assert 0.5 * live < footprint(config).live_trace < 2 * live


def test_parts_add_up(make_run: MakeRun) -> None:
    whole, half = footprint(make_run(batch_size=8).config), footprint(make_run(batch_size=8).config, micro_batch=4)
    assert half.activations == whole.activations / 2
    assert whole.memory - half.memory == half.activations
    assert whole.checkpoint == whole.weights + whole.optimizer == 3 * whole.weights
    assert whole.working_disk == 2 * whole.checkpoint + whole.live_trace + whole.trace
