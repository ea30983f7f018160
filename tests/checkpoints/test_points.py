"""Places inside a block, in families that call and build them differently."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.gpt_neox.modeling_gpt_neox import eager_attention_forward

from reproduce.checkpoints.points import find_places
from reproduce.checkpoints.structure import Structure, find_structure, observing
from reproduce.errors import OfeError
from tests.checkpoints.tiny import build, inputs

DOWN = {
    "Llama": "model.layers.{}.mlp.down_proj",
    "Qwen3": "model.layers.{}.mlp.down_proj",
    "GPT2": "transformer.h.{}.mlp.c_proj",
    "GPTNeoX": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
    "OPT": "model.decoder.layers.{}.fc2",
    "Bloom": "transformer.h.{}.mlp.dense_4h_to_h",
    "Falcon": "transformer.h.{}.mlp.dense_4h_to_h",
    "Bert": "encoder.layer.{}.output.dense",
    "Phi": "model.layers.{}.mlp.fc2",
    "ViT": "layers.{}.mlp.fc2",
}
"""Family -> name of the down projection of each block."""


def seen(
    model: nn.Module, batch: dict[str, Tensor], structure: Structure, *points: str
) -> dict[tuple[str, str], Tensor]:
    """What a forward pass shows, by point and layer. Falcon changes some of it in place afterwards."""
    shown: dict[tuple[str, str], Tensor] = {}

    def show(point: str, layer: str, x: Tensor) -> None:
        shown[point, layer] = x.clone()

    with torch.no_grad(), observing(model, structure, show, points):
        model(**batch)
    return shown


@pytest.mark.parametrize("family", DOWN)
def test_the_down_projection_is_found_with_its_input_and_output(family: str) -> None:
    model, batch = build(family), inputs(family)
    structure = find_structure(model, lambda: model(**batch))
    places = find_places(structure.blocks, structure.width, ["down_in"])
    expected = [name for name, one in model.named_modules() if any(one is place.module for place in places)]
    if family != "ViT":
        assert expected == [DOWN[family].format(block) for block in range(structure.depth)]
    shown = seen(model, batch, structure, "down_in", "mlp_out", "attn_out")
    for layer in range(1, structure.depth + 1):
        hidden, out = shown["down_in", str(layer)], shown["mlp_out", str(layer)]
        assert hidden.ndim == out.ndim == 3
        assert torch.equal(places[layer - 1].module(hidden), out)
        assert shown["attn_out", str(layer)].shape == shown["stream", str(layer)].shape


def test_the_stream_of_a_pre_norm_block_is_the_sum_of_its_parts() -> None:
    model, batch = build("Llama"), inputs("Llama")
    structure = find_structure(model, lambda: model(**batch))
    shown = seen(model, batch, structure, "attn_out", "mlp_out")
    for layer in ("1", "2"):
        parts = shown["stream", layer] + shown["attn_out", layer] + shown["mlp_out", layer]
        assert torch.allclose(parts, shown["stream", str(int(layer) + 1)], atol=1e-6)


def test_queries_and_keys_are_those_of_the_projections() -> None:
    model, batch = build("Llama"), inputs("Llama")
    structure = find_structure(model, lambda: model(**batch))
    shown = seen(model, batch, structure, "q", "k")
    block = model.model.layers[0]
    normed = block.input_layernorm(shown["stream", "1"])
    assert torch.equal(shown["q", "1"], block.self_attn.q_proj(normed))
    assert torch.equal(shown["k", "1"], block.self_attn.k_proj(normed))


FUSED = {
    "GPTNeoX": {},
    "GPT2": {},
    "Phi3": {},
    "Bloom": {},
    "Falcon, one key": {"multi_query": True},
    "Falcon, a key for each head": {"multi_query": False},
    "Falcon, groups": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "GPTBigCode, one key": {"multi_query": True},
    "GPTBigCode, a key for each head": {"multi_query": False},
}
"""Family, with a remark -> changes of its configuration."""


def spied(family: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Module, list[Any]]:
    """A model and a list that gets the queries and keys which its attention really multiplies, (B, H, T, h), by layer.

    Where they have been rotated, those of position 0 are as they were.
    """
    real: list[Any] = []

    def spy(module: Any, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any) -> Any:
        real.append((query, key))
        shared = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
        return eager_attention_forward(module, query, key, value, *rest, **options)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "spy", spy)
    model = build(family, **changes)
    if family not in ("Bloom", "Falcon"):  # these two do not ask for their attention by name
        model.config._attn_implementation = "spy"
        return model, real
    for module in model.modules():
        if (split := getattr(module, "_reshape", None) or getattr(module, "_split_heads", None)) is not None:
            name = split.__name__

            def wrapped(fused: Tensor, split: Any = split) -> Any:
                parts = split(fused)
                by_head = parts if family == "Bloom" else [part.transpose(1, 2) for part in parts]
                real.append((by_head[0].clone(), by_head[1].clone()))
                return parts

            monkeypatch.setattr(module, name, wrapped)
    return model, real


@pytest.mark.parametrize("named", FUSED)
def test_queries_and_keys_of_one_matrix_are_those_that_attention_multiplies(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = named.partition(",")[0]
    model, real = spied(family, FUSED[named], monkeypatch)
    batch = {"input_ids": torch.randint(3, 300, (2, 10), generator=torch.Generator().manual_seed(1))}
    structure = find_structure(model, lambda: model(**batch))
    real.clear()
    shown = seen(model, batch, structure, "q", "k")
    assert len(real) == structure.depth
    for layer, (query, key) in enumerate(real, 1):
        for point, expected in (("q", query), ("k", key)):
            got = shown[point, str(layer)].unflatten(-1, (-1, expected.shape[-1]))[:, 0]  # (B, H, h) of position 0
            heads = expected[:, :, 0]
            if point == "k":  # one key may have been given to several heads
                heads = heads[:, :: heads.shape[1] // got.shape[1]]
            assert torch.equal(got, heads), (point, layer)


def test_a_layout_that_is_not_known_is_not_guessed() -> None:
    class OwnAttention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(8, 24)

    block = nn.Module()
    block.attention = OwnAttention()
    with pytest.raises(OfeError, match="OwnAttention gets queries, keys and values from one matrix") as told:
        find_places([block], 8, ["q"])
    assert "leave q out of --points" in str(told.value.hint)
