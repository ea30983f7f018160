"""Which parts of a large model are gathered together, and how much of it a device holds: without allocating it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from reproduce.config import RunConfig, TransformerConfig
from reproduce.models.size import block_matrices, parameters
from reproduce.models.transformer import Transformer
from reproduce.parallel.distributed_model import DistributedModel, recompute_blocks, shard_groups
from tests.parallel.toys import CPU, toy_config

GELU_ROPE = {"kind": "transformer", "activation": "gelu", "positions": "rope"}
LANGUINI_1B = GELU_ROPE | {"layers": 24, "width": 2048, "heads": 16, "biases": "all", "tied": True, "embed_scale": 50}
FINEWEB_7B = GELU_ROPE | {"layers": 32, "width": 4096, "heads": 32, "embed_scale": 50}
OP = {"post_qk": "rms", "gains": "vector", "attn_gain": 0.05, "mlp_gain": 0.05}


def large(model: dict[str, Any], vocab_size: int, seq_len: int) -> tuple[RunConfig, Transformer]:
    config = toy_config()
    tree = config.model_dump() | {"model": model, "precision": "bf16"}
    tree["data"] |= {"vocab_size": vocab_size, "seq_len": seq_len}
    config = RunConfig.model_validate(tree)
    assert isinstance(config.model, TransformerConfig)
    with torch.device("meta"):
        return config, Transformer(config.model, vocab_size, seq_len)


@pytest.mark.parametrize(
    ("model", "vocab_size", "seq_len", "millions", "devices"),
    [
        (LANGUINI_1B, 16_384, 512, 1_242.0, 4),  # 1,241.5 in its matrices, as published
        (FINEWEB_7B | {"block": OP}, 50_304, 4096, 6_854.8, 48),
        (FINEWEB_7B | {"block": OP}, 128_256, 4096, 7_493.4, 48),
    ],
)
def test_a_large_model_is_cut_block_by_block(
    model: dict[str, Any], vocab_size: int, seq_len: int, millions: float, devices: int
) -> None:
    config, module = large(model, vocab_size, seq_len)
    count = sum(parameter.numel() for parameter in module.parameters())
    assert count == parameters(config)
    assert round(count / 1e6, 1) == millions

    *blocks, root = shard_groups(module)
    assert [group.name for group in (*blocks, root)] == [*(f"blocks.{i}" for i in range(config.model.layers)), "root"]
    assert all(group.product_type for group in blocks)
    assert not root.product_type
    parts = [parameter for group in (*blocks, root) for parameter in group.parameters]
    assert len(parts) == len(set(parts)) == len(list(module.parameters()))
    for group in blocks:
        assert [type(linear) for linear in group.modules] == 6 * [torch.nn.Linear]
        assert sum(parameter.numel() for parameter in group.parameters) == block_matrices(config.model)
    assert root.parameters[0] is module.token_embedding.weight

    shards = [sum(each) for each in zip(*(group.shards(devices) for group in (*blocks, root)), strict=True)]
    assert sum(shards) == count
    assert max(shards) == pytest.approx(count / devices, rel=0.05)


def test_a_shard_has_whole_rows_and_the_last_devices_may_have_less() -> None:
    _, module = large(LANGUINI_1B | {"layers": 1, "width": 48, "heads": 2, "biases": "none"}, 257, 8)
    *_, root = shard_groups(module)
    assert [parameter.shape for parameter in root.parameters] == [(257, 48)]
    assert root.shards(4) == [65 * 48, 65 * 48, 65 * 48, 62 * 48]
    assert root.shards(100)[85:] == [2 * 48, *14 * [0]]


def test_a_single_process_has_its_model_where_it_was() -> None:
    torch.manual_seed(0)
    config = toy_config()
    assert isinstance(config.model, TransformerConfig)
    model = Transformer(config.model, 257, 12)
    before = dict(model.named_parameters())
    distributed = DistributedModel(model, config, CPU, None)
    assert dict(model.named_parameters()) == before
    assert distributed.look(lambda: 3) == 3


def test_recomputation_keeps_names_and_gradients() -> None:
    config = toy_config()
    assert isinstance(config.model, TransformerConfig)
    tokens = torch.randint(257, (3, 12))
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = Transformer(config.model, 257, 12)
        if recompute:
            recompute_blocks(model)
        model(tokens).square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name
