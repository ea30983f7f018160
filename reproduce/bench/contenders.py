"""Training steps to be timed beside one another: ours, the library's, and the bare matrix products of a step.

A contender is a function that does one step and returns when it is done. Ours is the training loop itself, with its
data taken from random tokens, so that nothing of a step is left out.
"""

from __future__ import annotations

import math
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reproduce.config import RunConfig, TextData, TransformerConfig
from reproduce.models.variants import VARIANTS
from reproduce.parallel.distributed_model import PRODUCT_TYPE
from reproduce.store.runs import RunFolder
from reproduce.training.language import LanguageTask
from reproduce.training.train import Execution, Training

Step = Callable[[], None]

SIZES: dict[str, dict[str, Any]] = {
    "laptop": {"layers": 6, "width": 256, "heads": 8, "vocab_size": 2048, "seq_len": 128, "batch_size": 4},
    "130m": {"layers": 6, "width": 768, "heads": 12, "vocab_size": 50_000, "seq_len": 128, "batch_size": 32},
    "1.2b": {"layers": 24, "width": 2048, "heads": 16, "vocab_size": 16_384, "seq_len": 512, "batch_size": 8},
}


def config(size: Mapping[str, Any], block: str, precision: str, **changes: Any) -> RunConfig:
    """The run of one block at one size. `changes` are fields of the run, such as its optimiser."""
    model = {name: size[name] for name in ("layers", "width", "heads")}
    body = {
        "model": model | {"kind": "transformer", "biases": "qk", "block": dict(VARIANTS[block])},
        "data": {"kind": "text", "source": "random", "seq_len": size["seq_len"], "vocab_size": size["vocab_size"]},
        "optimizer": {"lr": 1e-3},
        "grad_clip": 1.0,
        "steps": 1_000_000,
        "batch_size": size["batch_size"],
        "precision": precision,
        "probe": {"every": 1_000_000, "batch_size": 32},
        "eval": {"every": 1_000_000, "batches": 1},
    }
    return RunConfig.model_validate(body | changes)


class RandomTokens:
    """A corpus of random tokens, as far as a training asks it."""

    def __init__(self, data: TextData) -> None:
        self.data = data

    def batch(self, seed: int, step: int, batch_size: int) -> np.ndarray:
        generator = np.random.default_rng((seed, step))
        return generator.integers(0, self.data.vocab_size, (batch_size, self.data.seq_len))

    def eval_batch(self, index: int, batch_size: int) -> np.ndarray:
        return self.batch(1, index, batch_size)

    def probe_batch(self, batch_size: int) -> np.ndarray:
        return self.batch(2, 0, batch_size)


def training(run: RunConfig, device: torch.device, folder: Path) -> Training:
    """A training of `run` that has not begun. Its trace goes to `folder`, which is made."""
    assert isinstance(run.data, TextData)
    torch.manual_seed(0)
    task = LanguageTask(run, RandomTokens(run.data), device)
    folder.mkdir(parents=True)
    return Training(run, task, RunFolder(folder), Execution(device, checkpoint_s=math.inf, progress_s=math.inf))


def our_step(run: RunConfig, device: torch.device, folder: Path) -> Step:
    """One step of this package's training loop."""
    ours = training(run, device, folder)
    return lambda: check(not ours.advance()[1])


def check(trains: bool) -> None:
    """Stop a benchmark whose training diverged: its steps would no longer be steps of a training."""
    if not trains:
        raise RuntimeError("the training diverged")


def gpt2(run: RunConfig) -> Any:
    """GPT-2 as transformers has it, of the size of `run`, with random weights and eager attention."""
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    assert isinstance(run.model, TransformerConfig)
    assert isinstance(run.data, TextData)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=run.data.vocab_size,
            n_positions=run.data.seq_len,
            n_embd=run.model.width,
            n_layer=run.model.layers,
            n_head=run.model.heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            attn_implementation="eager",
            tie_word_embeddings=False,  # as in our model
            use_cache=False,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def library_step(run: RunConfig, device: torch.device) -> Step:
    """One step of GPT-2 as transformers has it, at the same size and precision: eager attention, fused AdamW."""
    assert isinstance(run.data, TextData)
    torch.manual_seed(0)
    rival = gpt2(run)
    rival.to(device).train()
    parameters = list(rival.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    tokens, numbers = RandomTokens(run.data), iter(range(sys.maxsize))

    def step() -> None:
        batch = torch.from_numpy(tokens.batch(0, next(numbers), run.batch_size)).to(device)
        kind, mixed = PRODUCT_TYPE[run.precision], run.precision != "fp32"
        with torch.autocast(device.type, dtype=kind, enabled=mixed):
            loss = rival(batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    return step


def passes_over_text(run: RunConfig, device: torch.device, folder: Path) -> dict[str, Step]:
    """Passes of a GPT-2 over one batch of `run`: `plain` ones without logits, and `measured` as `ofe measure` does it.

    It measures the default metrics at every block, and computes no logits either.
    """
    from reproduce.checkpoints.measuring import measure_checkpoint
    from reproduce.checkpoints.opening import open_checkpoint
    from reproduce.job_config import MeasureConfig, TextSample

    assert isinstance(run.data, TextData)
    gpt2(run).save_pretrained(folder)
    opened = open_checkpoint(str(folder), device=device)
    tokens = torch.from_numpy(RandomTokens(run.data).batch(0, 0, run.batch_size)).to(device)
    text = TextSample(source=run.data.source, seq_len=run.data.seq_len)
    wanted = MeasureConfig(parent=opened.identity, text=text, examples=run.batch_size, skip_first=1)

    whole: Any = opened.module

    def plain() -> None:
        with torch.no_grad():
            whole.base_model(input_ids=tokens, use_cache=False)

    return {"plain": plain, "measured": lambda: check(measure_checkpoint(opened, tokens, wanted) is not None)}


def product_shapes(run: RunConfig) -> list[tuple[int, int, int]]:
    """(n, k, m) of each product X W^T of a forward pass, X (n, k) and W (m, k), without those of attention."""
    model, data = run.model, run.data
    assert isinstance(model, TransformerConfig)
    assert isinstance(data, TextData)
    n, d, f = run.batch_size * data.seq_len, model.width, model.mlp_width
    block = [(n, d, d)] * 4 + [(n, d, f), (n, f, d)]
    return block * model.layers + [(n, d, data.vocab_size)]


def bare_products(run: RunConfig, device: torch.device) -> Step:
    """The matrix products of one step, forward and backward, and nothing else: what the machine could do at most."""
    kind = PRODUCT_TYPE[run.precision]
    shapes = product_shapes(run)
    operands = {
        (n, k, m): tuple(torch.randn(shape, device=device).to(kind) for shape in ((n, k), (m, k), (n, m)))
        for n, k, m in set(shapes)
    }

    def step() -> None:
        for shape in shapes:
            x, weight, gradient = operands[shape]
            _three_products(x, weight, gradient)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def _three_products(x: Tensor, weight: Tensor, gradient: Tensor) -> None:
    """Y = X W^T, dX = dY W, dW = dY^T X."""
    torch.mm(x, weight.T)
    torch.mm(gradient, weight)
    torch.mm(gradient.T, x)


def alternate(contenders: Mapping[str, Step], device: torch.device, rounds: int, warm_up: int = 2) -> dict[str, float]:
    """Median seconds of each contender over `rounds` rounds, in each of which every one takes one step.

    On a CPU these are seconds of the processor, which other processes disturb less than they do the clock.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(warm_up + rounds):
        for name, step in contenders.items():
            begin = clock()
            step()
            if number >= warm_up:
                times[name].append(clock() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def resident_bytes() -> int:
    """The most memory that this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
