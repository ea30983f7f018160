"""The memory of a device against tensors that are counted, and the choices that follow from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from reproduce.config import MlpConfig, TransformerConfig
from reproduce.machine import Gpu, Machine
from reproduce.models.size import block_matrices
from reproduce.models.transformer import Transformer
from reproduce.optim import build_optimizer
from reproduce.parallel.distributed_model import recompute_blocks, shard_groups
from reproduce.plan import memory
from reproduce.plan.footprint import PROCESS_BYTES, footprint, position_bytes, recomputed_bytes
from reproduce.plan.memory import EXAMPLES, arrange, device_memories, fit, layout, needs
from reproduce.specs.runs import ResolvedRun
from tests.plan.saved import saved_bytes

MakeRun = Callable[..., ResolvedRun]
OP = {"post_qk": "rms", "gains": "vector"}


def large(make_run: MakeRun, **changes: Any) -> Any:
    """A model of 1.2 billion parameters."""
    model = {"layers": 24, "width": 2048, "heads": 16, "biases": "all", "tied": True, "block": OP}
    data = {"seq_len": 512, "vocab_size": 16_384}
    return make_run(model=model, data=data, batch_size=128, precision="bf16", **changes).config


@pytest.mark.parametrize("biases", ["none", "qk", "all"])
def test_the_matrices_of_a_block_are_those_that_are_gathered(biases: str, make_run: MakeRun) -> None:
    config = make_run(model={"width": 16, "biases": biases, "block": OP}).config
    assert isinstance(config.model, TransformerConfig)
    with torch.device("meta"):
        groups = shard_groups(Transformer(config.model, 300, 16))
    counted = {sum(parameter.numel() for parameter in group.parameters) for group in groups[:-1]}
    assert counted == {block_matrices(config.model)}
    assert block_matrices(MlpConfig(layers=2, width=8)) == 2 * 8 * 8


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_state_of_a_device_is_its_share_of_every_tensor(devices: int, make_run: MakeRun) -> None:
    config = make_run(model={"width": 16, "biases": "all", "block": OP}, data={"vocab_size": 320}, batch_size=4).config
    assert isinstance(config.model, TransformerConfig)
    module = Transformer(config.model, 320, 16)
    optimizer = build_optimizer(config.optimizer, module)
    F.cross_entropy(module(torch.zeros(2, 16, dtype=torch.long)).flatten(0, 1), torch.arange(32)).backward()
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values() if value.ndim]
    whole = sum(tensor.nbytes for tensor in [*module.parameters(), *states])
    whole += sum(parameter.grad.nbytes for parameter in module.parameters() if parameter.grad is not None)
    assert layout(config, devices, None if devices == 1 else "ddp", 1, recompute=False).state_bytes == whole
    assert layout(config, devices, "fsdp", 1, recompute=False).state_bytes == whole / devices
    shards = [group.shards(devices)[0] for group in shard_groups(module)]
    assert 4 * 4 * sum(shards) == pytest.approx(whole / devices, rel=0.05)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputed_activations_come_within_a_third(precision: str, make_run: MakeRun) -> None:
    config = make_run(
        model={"layers": 6, "width": 128, "heads": 4, "biases": "qk", "block": OP},
        data={"seq_len": 64, "vocab_size": 512},
        batch_size=8,
        precision=precision,
    ).config
    assert isinstance(config.model, TransformerConfig)
    module = Transformer(config.model, 512, 64)
    recompute_blocks(module)
    tokens = torch.zeros(8, 64, dtype=torch.long)

    def loss() -> torch.Tensor:
        return module.next_token_loss(tokens)

    seen = saved_bytes(module, loss, precision, cache=False)
    # What the hooks see is kept until the backward pass; one block at a time comes on top of it then.
    one_block = 8 * 64 * position_bytes(config)[0]
    inputs = 6 * 8 * 64 * 128 * 4  # of the blocks, held by the checkpoints, out of the hooks' sight
    copies = 0 if precision == "fp32" else memory.weight_copies(config)
    assert recomputed_bytes(config, 8) - copies == pytest.approx(seen + inputs + one_block, rel=1 / 3)


def test_a_large_model_needs_sharding_on_small_devices_alone(make_run: MakeRun) -> None:
    config = large(make_run)
    assert fit(config, 1, 24 * 10**9, None) is None
    assert fit(config, 4, 24 * 10**9, "ddp") is None
    sharded = fit(config, 4, 24 * 10**9, "fsdp")
    assert sharded is not None
    assert sharded.device_bytes <= 0.9 * 24e9
    assert fit(config, 4, 80 * 10**9, "ddp") is not None


def test_recomputation_makes_room_for_what_does_not_fit_otherwise(make_run: MakeRun) -> None:
    config = large(make_run)
    state = layout(config, 1, None, 1, recompute=True)
    tight = round(state.device_bytes / 0.9) + 10**6
    found = fit(config, 1, tight, None)
    assert found == state
    assert fit(config, 1, tight, None, recompute=False) is None


def test_more_devices_never_hold_more(make_run: MakeRun) -> None:
    config = large(make_run)
    for mode in ("ddp", "fsdp"):
        sizes = [layout(config, count, mode, 1, recompute=False).device_bytes for count in (2, 4, 8, 16)]
        assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("name", ["soap", "adafactor"])
def test_optimisers_of_whole_matrices_are_never_sharded(name: str, make_run: MakeRun) -> None:
    config = large(make_run, optimizer={"name": name})
    assert fit(config, 8, 10**15, "fsdp") is None
    assert arrange(config, 8, 24 * 10**9).mode == "ddp"
    assert footprint(config).optimizer > footprint(large(make_run)).weights


def test_what_is_not_asked_for_is_chosen(make_run: MakeRun) -> None:
    small, big = make_run(batch_size=8).config, large(make_run)
    one = arrange(small, 1, 24 * 10**9)
    assert (one.mode, one.recompute, one.micro_batch) == (None, False, None)
    assert arrange(small, 2, 24 * 10**9).mode == "ddp"
    assert arrange(big, 4, 24 * 10**9).mode == "fsdp"
    assert arrange(big, 4, None).mode == "ddp"  # a memory that is not known decides nothing
    asked = arrange(big, 4, 24 * 10**9, mode="ddp", recompute=True, micro_batch=2)
    assert (asked.mode, asked.recompute, asked.micro_batch) == ("ddp", True, 2)
    leanest = arrange(big, 1, 10**9)
    assert (leanest.recompute, leanest.micro_batch) == (True, 1)


def test_runs_that_need_the_same_are_told_once(make_run: MakeRun, machine: Machine) -> None:
    runs = [make_run("a"), make_run("a", 1), make_run("b"), make_run("c", model={"width": 16})]
    found = needs(((run.name, run.config) for run in runs), machine)
    assert [(entry.runs, entry.memory) for entry in found] == [
        (names, size) for names in (("a", "b"), ("c",)) for size in EXAMPLES
    ]
    content = found[0].as_json()
    assert [row["devices"] for row in content["fits"]] == [1, 2]  # a batch of 2
    assert content["fits"][0]["fsdp"] is None
    assert content["fits"][1]["ddp"]["device_bytes"] > PROCESS_BYTES


def test_the_memory_reckoned_with_is_that_of_the_smallest_accelerator(machine: Machine) -> None:
    gpus = (Gpu("H200", 141 * 10**9), Gpu("A100", 80 * 10**9), Gpu("without a word", 0))
    assert device_memories(replace(machine, gpus=gpus)) == (80 * 10**9,)
    assert device_memories(replace(machine, gpus=gpus[2:])) == device_memories(machine) == EXAMPLES
