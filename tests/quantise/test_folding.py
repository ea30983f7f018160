"""Rewritings of a model in full precision: each is exact or refused, for every block (the cells of one table)."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from reproduce.quantise.decoder import Decoder, PlacedAttention, PlacedFeedForward, decoder_of
from reproduce.quantise.folding import (
    Home,
    NotExact,
    fold_gains,
    fold_smoothing,
    rotate_stream,
    rotation_obstacle,
    smoothing_home,
)
from reproduce.quantise.methods.quarot import rotation
from tests.quantise.test_decoder import CHOICES, TOKENS, model

QK, MLP = "blocks.1.attention.query", "blocks.1.mlp.up"
PROJECT, DOWN = "blocks.1.attention.project", "blocks.1.mlp.down"
FOLDED: dict[str, Home] = {QK: "norm", MLP: "norm", PROJECT: "rows", DOWN: "rows"}
HOMES: dict[str, dict[str, Home]] = {
    "pre-ln": FOLDED,
    "pre-rms": FOLDED,
    "pre-ln-gated": FOLDED,
    "clipped": FOLDED,
    "value-skipinit": FOLDED,
    "pre-srms": FOLDED | {QK: "online", MLP: "online"},
    "op": FOLDED | {QK: "online", MLP: "online"},
    "layer-scale": FOLDED | {QK: "online", MLP: "online"},
    "post-ln": FOLDED | {QK: "online", MLP: "online"},
    "leaky": FOLDED | {QK: "online", MLP: "online"},
    "rope, gelu, biases": FOLDED | {QK: "online", MLP: "online", DOWN: "online"},
}
"""Block -> layer -> where the division of its inputs goes."""
OBSTACLES = {
    "post-ln": "norm with a gain stands in its stream",
    "pre-ln-gated": "gates read slices",
    "pre-ln": "whose mean only the first take out",  # its head reads the stream without a norm
    "clipped": "whose mean only the first take out",
    "value-skipinit": "whose mean only the first take out",
    "scaled embeddings and positions": "whose mean only the first take out",
    "pre-v alone": "whose mean only the first take out",
}
"""Block -> why its stream cannot be rotated. All others can."""


def decoder(choice: str, **block: str) -> Decoder:
    changes = dict(CHOICES[choice])
    fields = changes.get("block", {})
    assert isinstance(fields, dict)
    return decoder_of(model(changes | {"block": fields | block}))


def same(made: nn.Module, wanted: Tensor) -> bool:
    """Whether the logits are `wanted` but for float32 rounding. They are of order 1."""
    return bool(torch.allclose(made(TOKENS), wanted, rtol=1e-3, atol=1e-4))


@pytest.mark.parametrize("choice", CHOICES)
def test_folded_gains_keep_the_function(choice: str) -> None:
    made = decoder(choice)
    wanted = made(TOKENS)
    fold_gains(made)
    assert same(made, wanted)
    for module in made.modules():
        if isinstance(module, PlacedAttention | PlacedFeedForward):
            norms = (module.norm_qk, module.norm_v) if isinstance(module, PlacedAttention) else (module.norm,)
            kept = [parameter for norm in norms if norm is not None for parameter in norm.parameters()]
            assert all(len(parameter.unique()) == 1 for parameter in kept)


@pytest.mark.parametrize("choice", HOMES)
def test_smoothing_is_folded_where_that_is_exact_and_refused_elsewhere(choice: str) -> None:
    made = decoder(choice)
    wanted = made(TOKENS)
    for layer, home in HOMES[choice].items():
        assert smoothing_home(made, layer) == home
        weight = made.get_parameter(f"{layer}.weight").clone()
        scales = torch.rand(weight.shape[1], generator=torch.Generator().manual_seed(1)) * 3 + 0.2
        if home == "online":
            with pytest.raises(NotExact, match="nothing before"):
                fold_smoothing(made, layer, scales)
            assert torch.equal(made.get_parameter(f"{layer}.weight"), weight)
        else:
            fold_smoothing(made, layer, scales)
            assert torch.equal(made.get_parameter(f"{layer}.weight"), weight * scales)
            assert same(made, wanted)


def test_a_gelu_does_not_take_a_factor() -> None:
    """What makes the cell "online": dividing before and multiplying after a GELU is another function."""
    made = decoder("rope, gelu, biases")
    wanted, forward = made(TOKENS), made.blocks[1].mlp
    forward.up.weight.data, forward.up.bias.data = forward.up.weight.data / 3, forward.up.bias.data / 3
    forward.down.weight.data = forward.down.weight.data * 3
    assert not same(made, wanted)


@pytest.mark.parametrize("choice", CHOICES)
def test_the_stream_is_rotated_where_that_is_exact_and_refused_elsewhere(choice: str) -> None:
    made = decoder(choice)
    obstacle = rotation_obstacle(made)
    assert (obstacle is not None) == (choice in OBSTACLES)
    assert OBSTACLES.get(choice, "") in (obstacle or "")
    if obstacle is None:
        check_rotation(made)
        return
    with pytest.raises(NotExact):
        rotate_stream(made, rotation(16))


@pytest.mark.parametrize("choice", ["pre-ln", "clipped", "value-skipinit"])
def test_a_final_norm_lets_the_stream_of_pre_ln_be_rotated(choice: str) -> None:
    """Then all that reads the stream takes its mean out."""
    made = decoder(choice, final_norm="ln")
    assert rotation_obstacle(made) is None
    check_rotation(made)


def check_rotation(made: Decoder) -> None:
    """The function stays, and the stream is another one."""
    wanted, before = made(TOKENS), stream(made)
    rotate_stream(made, rotation(16))
    assert same(made, wanted)
    assert not torch.allclose(stream(made), before, atol=0.1)


def stream(made: Decoder) -> Tensor:
    """What enters the second block, (B, T, D)."""
    seen: list[Tensor] = []
    made.blocks[1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    made(TOKENS)
    return seen[0]


def test_a_layer_norm_needs_the_mean_taken_out() -> None:
    """The classic mistake: a rotation that is folded around LayerNorms alone is another function."""
    made = decoder("pre-ln", final_norm="ln")
    wanted = made(TOKENS)
    kept = copy.deepcopy([made.final_norm, *(norm for b in made.blocks for norm in (b.attention.norm_qk, b.mlp.norm))])
    rotate_stream(made, rotation(16))
    made.final_norm, rest = kept[0], iter(kept[1:])
    for block in made.blocks:
        block.attention.norm_qk, block.mlp.norm = next(rest), next(rest)
    assert not same(made, wanted)


@pytest.mark.parametrize("choice", ["pre-ln", "op", "scalar gains, tied"])
def test_keys_and_queries_are_rotated_after_their_norms(choice: str) -> None:
    """q R (k R)^T = q k^T after QK-Norm; before a QK-Norm with gains the same rotation changes the scores."""
    made, turn = decoder(choice), Turn(rotation(8).float())
    wanted, normed = made(TOKENS), "norm-q" in made.blocks[0].attention.places
    for after in (True, False) if normed else (True,):
        turned = copy.deepcopy(made)
        for block in turned.blocks:
            for name in ("norm-q", "norm-k") if normed and after else ("query", "key"):
                block.attention.places[name].quantiser = turn
        assert same(turned, wanted) == after


class Turn(nn.Module):
    """Rotates the channels of each head, before or after the heads are cut apart."""

    def __init__(self, by: Tensor) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return (x.unflatten(-1, (-1, len(self.by))) @ self.by).flatten(-2)
