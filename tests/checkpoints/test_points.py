"""Places inside a block, in families that call and build them differently."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

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


def test_queries_that_come_from_one_matrix_with_keys_are_not_guessed() -> None:
    model, batch = build("GPT2"), inputs("GPT2")
    structure = find_structure(model, lambda: model(**batch))
    with pytest.raises(OfeError, match="the point q was not found in GPT2Block") as told:
        find_places(structure.blocks, structure.width, ["q"])
    assert "leave q out of --points" in str(told.value.hint)
