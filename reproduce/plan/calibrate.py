"""Times training steps on this machine and prints them as JSON: `python -m reproduce.plan.calibrate`.

A process of its own, so that planning never loads torch. It walks up a ladder of model sizes, taking real steps
of each (forward, backward, clipping, AdamW) on random tokens, as long as the next rung fits into the time that is
left. One more measurement, of SOAP on a small model, gives the rate of what preconditioning adds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from reproduce.config import RunConfig
from reproduce.models.size import preconditioner_flops, step_flops

LADDER = (
    {"layers": 2, "width": 64, "heads": 2, "vocab_size": 512, "seq_len": 32, "batch_size": 4},
    {"layers": 6, "width": 256, "heads": 4, "vocab_size": 2048, "seq_len": 128, "batch_size": 8},
    {"layers": 6, "width": 768, "heads": 12, "vocab_size": 8192, "seq_len": 128, "batch_size": 8},
    {"layers": 6, "width": 768, "heads": 12, "vocab_size": 50000, "seq_len": 128, "batch_size": 32},
)
"""Sizes between the smallest scale and the paper's, each step costing several times the one before."""
_SOAP = {"layers": 1, "width": 256, "heads": 4, "vocab_size": 2048, "seq_len": 32, "batch_size": 2}


def sample(size: Mapping[str, int], precision: str, **optimizer: Any) -> RunConfig:
    """A training of the ordinary kind at one size, by AdamW unless `optimizer` says otherwise."""
    model = {name: size[name] for name in ("layers", "width", "heads")}
    norms = {"pre_qk": "rms", "pre_v": "rms", "pre_mlp": "rms"}
    return RunConfig.model_validate(
        {
            "model": model | {"kind": "transformer", "biases": "qk", "block": norms},
            "data": {"kind": "text", "source": "random", "seq_len": size["seq_len"], "vocab_size": size["vocab_size"]},
            "optimizer": {"lr": 1e-4} | optimizer,
            "steps": 100,
            "batch_size": size["batch_size"],
            "precision": precision,
            "probe": {"every": 100, "batch_size": 1},
            "eval": {"every": 100, "batches": 1},
        }
    )


def stepper(config: RunConfig, device: str) -> Callable[[], None]:
    """A function that takes one training step and waits until the device has done it."""
    import torch

    from reproduce.models.transformer import Transformer
    from reproduce.optim import build_optimizer

    assert config.model.kind == "transformer"
    assert config.data.kind == "text"
    vocab_size, length = config.data.vocab_size, config.data.seq_len
    torch.manual_seed(0)
    model = Transformer(config.model, vocab_size, length).to(device)
    optimizer = build_optimizer(config.optimizer, model)
    tokens = torch.randint(vocab_size, (config.batch_size, length), device=device)
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[config.precision]

    def step() -> None:
        with torch.autocast(device, dtype=kind, enabled=config.precision != "fp32"):
            loss = model.next_token_loss(tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    return step


def seconds_per_step(config: RunConfig, device: str, budget_s: float, at_most: int = 10) -> float:
    """Mean time of a step after a first one, over at least 2 and at most `at_most` steps or `budget_s` seconds."""
    step = stepper(config, device)
    step()
    begin, count = time.perf_counter(), 0
    while count < 2 or (count < at_most and time.perf_counter() - begin < budget_s):
        step()
        count += 1
    return (time.perf_counter() - begin) / count


def measure(device: str, precision: str, budget_s: float) -> dict[str, Any]:
    """Steps as `[flops, seconds]`, the speed of preconditioning, and how long it took to find out."""
    begin = time.perf_counter()
    steps: list[list[float]] = []
    for size in LADDER:
        config = sample(size, precision)
        work = step_flops(config)
        left = budget_s - (time.perf_counter() - begin)
        # Larger products run at least as fast as those of the rung before: a first step and two to be timed. The
        # smallest rung is all overhead and says too little of the next, so two are always taken.
        if len(steps) >= 2 and 3 * work * steps[-1][1] / steps[-1][0] > left:
            break
        steps.append([work, seconds_per_step(config, device, left / 4)])
    plain = seconds_per_step(sample(_SOAP, precision), device, 1.0)
    soap = sample(_SOAP, precision, name="soap", precond_freq=5, max_precond_dim=1024)
    extra = max(seconds_per_step(soap, device, 2.0) - plain, 1e-9)
    return {
        "steps": steps,
        "preconditioner_flop_per_s": preconditioner_flops(soap) / extra,
        "measuring_s": time.perf_counter() - begin,
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reproduce.plan.calibrate", description="times training steps")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget-s", type=float, default=8.0, help="seconds to spend on the ladder of sizes")
    options = parser.parse_args(arguments)

    import torch

    torch.set_num_threads(options.threads)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no CUDA device", file=sys.stderr)
        return 1
    print(json.dumps(measure(options.device, options.precision, options.budget_s)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
