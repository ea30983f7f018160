"""Everything whose numbers or behaviour depend on the device: `make gpu-check` runs this on a GPU.

Without TEST_DEVICE the same tests run on the processor, where most of them compare a computation with itself. That
keeps them in order until a GPU is at hand.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from reproduce.config import RunConfig
from reproduce.jobs.train import plan_execution
from reproduce.measuring.probe import Probe, measure
from reproduce.models.kernels import linear_cross_entropy, rms_norm
from reproduce.models.transformer import Transformer
from reproduce.quantise.integers import arithmetic
from reproduce.store.runs import RunFolder
from reproduce.store.trace import read_live
from reproduce.training.train import Execution, Training
from tests.parallel.toys import CPU, SOAP, image_config, toy_config, toy_task, train

_ASKED = os.environ.get("TEST_DEVICE", "cpu")
DEVICE = torch.device("cuda", 0) if _ASKED == "cuda" else torch.device(_ASKED)
BLOCKS: dict[str, dict[str, Any]] = {
    "Pre-LN": {"pre_qk": "ln", "pre_v": "ln", "pre_mlp": "ln"},
    "Pre-SRMSNorm": {"pre_qk": "srms", "pre_v": "srms", "pre_mlp": "srms"},
    "Post-LN": {"post_norm": "ln"},
    "OP": {"post_qk": "rms", "attn_gain": 0.3, "mlp_gain": 0.3},
    "OP (tanh)": {"tanh_cap": 30.0, "attn_gain": 0.3, "mlp_gain": 0.3},
    "gated": {"pre_qk": "ln", "pre_v": "ln", "pre_mlp": "ln", "gate": 0.25},
    "clipped": {"pre_qk": "ln", "pre_v": "ln", "pre_mlp": "ln", "softmax_gamma": -0.1},
}
FP32_LIMIT = 1e-3
"""Six steps at a rate of 0.01 amplify the rounding of single operations (1e-6) to less than this."""


def config_of(block: dict[str, Any], **changes: Any) -> RunConfig:
    tree = toy_config(**changes).model_dump(mode="json")
    tree["model"]["block"] = block
    return RunConfig.model_validate(tree)


def values(training: Training) -> pd.Series:
    trace = read_live(training.folder.path)
    return trace.set_index(["step", "split", "metric", "layer"]).value


def gap(ours: Training, theirs: Training) -> float:
    """Largest difference of the losses of two trainings."""
    mine, other = (values(each).xs("loss", level="metric") for each in (ours, theirs))
    assert mine.index.equals(other.index)
    assert len(mine) > 6
    return float((mine - other).abs().max())


@pytest.fixture
def group_of_one() -> Iterator[None]:
    backend = "cpu:gloo,cuda:nccl" if DEVICE.type == "cuda" else "gloo"
    if DEVICE.type == "cuda":
        torch.cuda.set_device(DEVICE)
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_the_device_is_there() -> None:
    """Fails, where the others would be skipped one by one, if the GPU that was asked for does not answer."""
    x = torch.arange(6.0, device=DEVICE)
    assert x.device.type == DEVICE.type
    assert float(x.sum()) == 15


@pytest.mark.parametrize("name", BLOCKS)
def test_float32_training_is_that_of_the_processor(name: str, tmp_path: Path) -> None:
    config = config_of(BLOCKS[name])
    here, there = train(tmp_path / "here", config, device=DEVICE), train(tmp_path / "cpu", config)
    assert all(parameter.device.type == DEVICE.type for parameter in here.task.model.parameters())
    assert gap(here, there) < FP32_LIMIT
    kurtosis, expected = (values(each).xs("kurtosis", level="metric") for each in (here, there))
    assert kurtosis.tolist() == pytest.approx(expected.tolist(), rel=0.01)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "sgd"},
        {"name": "adafactor", "lr": 1e-3},
        SOAP,
        {"name": "adafactor-rotated", "lr": 1e-3, "eps": 1e-2, "precond_freq": 2},
        {"placement": "transformers"},
    ],
    ids=lambda optimizer: optimizer.get("name", "adamw of transformers"),
)
def test_every_optimizer_takes_the_steps_that_it_takes_on_the_processor(
    optimizer: dict[str, Any], tmp_path: Path
) -> None:
    config = toy_config(optimizer=optimizer)
    here, there = train(tmp_path / "here", config, device=DEVICE), train(tmp_path / "cpu", config)
    assert gap(here, there) < 10 * FP32_LIMIT, "eigenvectors are those of another library"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_near_float32(precision: str, tmp_path: Path) -> None:
    half = train(tmp_path / "half", toy_config(precision=precision), device=DEVICE)
    whole = train(tmp_path / "whole", toy_config(), device=DEVICE)
    assert half.scaler.is_enabled() == (precision == "fp16")
    assert 0 < gap(half, whole) < 0.1
    losses = values(half).xs(("train", "loss"), level=("split", "metric"))
    assert losses.iloc[-1] < losses.iloc[0]
    assert all(parameter.dtype == torch.float32 for parameter in half.task.model.parameters()), "the master weights"


def test_the_scaler_skips_a_step_whose_gradients_overflow_and_lowers_its_scale(tmp_path: Path) -> None:
    config = toy_config(precision="fp16")
    training = Training(config, toy_task(config, Execution(DEVICE)), RunFolder(made(tmp_path)), Execution(DEVICE))
    before = {name: each.detach().clone() for name, each in training.task.model.named_parameters()}
    training.scaler._init_scale = 2.0**100  # the first scale, far beyond what a gradient in float16 can bear
    _, failed = training.advance()
    assert not failed, "one skipped step is not a failure"
    assert training.scaler.get_scale() < 2.0**100
    for name, parameter in training.task.model.named_parameters():
        assert torch.equal(parameter, before[name])


def made(folder: Path) -> Path:
    (folder / "run").mkdir()
    return folder / "run"


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_attention_kernel_is_the_formula(causal: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 65, 16, device=DEVICE).to(dtype).requires_grad_() for _ in range(3))
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    weight = torch.randn_like(mixed)
    gradients = torch.autograd.grad((mixed * weight).sum(), (q, k, v))

    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    logits = exact[0] @ exact[1].transpose(-1, -2) / math.sqrt(16)
    if causal:
        logits = logits.masked_fill(torch.ones(65, 65, device=DEVICE).triu(1).bool(), -math.inf)
    expected = logits.softmax(-1) @ exact[2]
    others = torch.autograd.grad((expected * weight.double()).sum(), exact)
    limit = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    assert float((mixed.double() - expected).detach().abs().max()) < limit
    for ours, theirs in zip(gradients, others, strict=True):
        assert float((ours.double() - theirs).abs().max()) < 8 * limit


def test_the_written_out_backward_passes_are_those_of_autograd() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 7, 32, device=DEVICE, requires_grad=True)
    gain = torch.randn(32, device=DEVICE, requires_grad=True)
    plain = x / (x.square().mean(-1, keepdim=True).sqrt() + 1e-5) * gain
    for ours, theirs in zip(
        torch.autograd.grad(rms_norm(x, gain, 1e-5).sin().sum(), (x, gain)),
        torch.autograd.grad(plain.sin().sum(), (x, gain)),
        strict=True,
    ):
        assert float((ours - theirs).abs().max()) < 1e-4
    hidden = torch.randn(40, 32, device=DEVICE, requires_grad=True)
    weight = torch.randn(257, 32, device=DEVICE, requires_grad=True)
    targets = torch.randint(257, (40,), device=DEVICE)
    for ours, theirs in zip(
        torch.autograd.grad(linear_cross_entropy(hidden, weight, targets), (hidden, weight)),
        torch.autograd.grad(F.cross_entropy(hidden @ weight.T, targets), (hidden, weight)),
        strict=True,
    ):
        assert float((ours - theirs).abs().max()) < 1e-5


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_a_group_of_one_trains_as_a_process_alone(mode: str, precision: str, tmp_path: Path) -> None:
    config = toy_config(precision=precision)
    alone = train(tmp_path / "alone", config, device=DEVICE)
    grouped = train(tmp_path / "grouped", config, device=DEVICE, mode=mode)
    assert gap(grouped, alone) < (FP32_LIMIT if precision == "fp32" else 0.05)


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("modes", [(None, "fsdp"), ("fsdp", "ddp"), ("ddp", None)])
def test_a_checkpoint_of_one_arrangement_continues_in_another(modes: tuple[Any, Any], tmp_path: Path) -> None:
    config = toy_config()
    straight = train(tmp_path / "straight", config, device=DEVICE)
    train(tmp_path / "moved", config, device=DEVICE, mode=modes[0], stop_at=3)
    assert gap(train(tmp_path / "moved", config, device=DEVICE, mode=modes[1]), straight) < FP32_LIMIT


@pytest.mark.parametrize("changes", [{}, {"precision": "fp16"}, {"optimizer": SOAP}, {"model": {"dropout": 0.1}}])
def test_a_resumed_training_is_the_straight_one(changes: dict[str, Any], tmp_path: Path) -> None:
    config = toy_config(**changes)
    straight = train(tmp_path / "straight", config, device=DEVICE)
    train(tmp_path / "halved", config, device=DEVICE, stop_at=3)
    resumed = train(tmp_path / "halved", config, device=DEVICE)
    assert gap(resumed, straight) < (1e-6 if DEVICE.type == "cpu" else FP32_LIMIT)
    assert resumed.scaler.state_dict() == straight.scaler.state_dict()


def test_a_checkpoint_of_this_device_continues_on_the_processor(tmp_path: Path) -> None:
    config = toy_config()
    straight = train(tmp_path / "straight", config)
    train(tmp_path / "moved", config, device=DEVICE, stop_at=3)
    assert gap(train(tmp_path / "moved", config, device=CPU), straight) < FP32_LIMIT


@pytest.mark.parametrize("execution", [{"micro_batch": 3}, {"recompute": True}])
def test_savings_of_memory_do_not_move_the_losses(execution: dict[str, Any], tmp_path: Path) -> None:
    config = toy_config()
    whole = train(tmp_path / "whole", config, device=DEVICE)
    assert gap(train(tmp_path / "saving", config, device=DEVICE, **execution), whole) < FP32_LIMIT


def test_a_vision_transformer_trains_as_on_the_processor(tmp_path: Path) -> None:
    here, there = train(tmp_path / "here", image_config(), device=DEVICE), train(tmp_path / "cpu", image_config())
    assert gap(here, there) < FP32_LIMIT


def test_updates_of_moments_are_those_of_the_processor(tmp_path: Path) -> None:
    config = toy_config(probe={"moment_updates_layer": 2}, precision="bf16")
    here = train(tmp_path / "here", config, device=DEVICE)
    there = train(tmp_path / "cpu", config)
    for metric in ("m2_update_linear", "m4_update_quadratic"):
        ours, theirs = (values(each).xs(metric, level="metric") for each in (here, there))
        assert len(ours) == 6
        assert ours.iloc[0] == pytest.approx(theirs.iloc[0], rel=0.05)


def test_a_probe_of_large_activations_does_not_overflow() -> None:
    """Fourth moments of activations near 1e12 lie beyond float32, and are taken in float64 on every device."""
    config = toy_config()
    task = toy_task(config, Execution(DEVICE))
    task.model.to(DEVICE)
    assert isinstance(task.model, Transformer)
    with torch.no_grad():
        task.model.token_embedding.weight.mul_(1e12)

    class Subject:
        def encode(self, part: Any, observe: Any) -> None:
            task.encode(part, observe)

    with torch.no_grad():
        reading = measure(Subject(), [task.probe_batch(0)], Probe("residual"))
    assert all(math.isfinite(value) for value in reading.values["kurtosis"].values())


def test_integer_products_pass_their_self_test_or_say_why_not() -> None:
    found = arithmetic(DEVICE.type)
    x = torch.randint(-128, 128, (33, 64), dtype=torch.int8, device=DEVICE)
    weight = torch.randint(-127, 128, (24, 64), dtype=torch.int8, device=DEVICE)
    assert torch.equal(found.product(x, weight).cpu().long(), x.cpu().long() @ weight.cpu().long().T)


def test_the_arrangement_of_a_run_follows_the_memory_of_the_device() -> None:
    execution = plan_execution(toy_config(), DEVICE)
    assert execution.mode is None
    assert not execution.recompute
