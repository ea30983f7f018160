"""Blocks that are found by structure, in every family of models, and in a user's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from reproduce.checkpoints.structure import Structure, find_structure, observing
from reproduce.errors import OfeError
from tests.checkpoints.tiny import DECODERS, FAMILIES, build, inputs


def seen(model: nn.Module, run: Callable[[], object], structure: Structure) -> dict[str, Tensor]:
    """What a forward pass shows, by layer."""
    shown: dict[str, Tensor] = {}

    def show(point: str, layer: str, x: Tensor) -> None:
        assert point == "stream"
        assert layer not in shown, "each layer is shown once"
        shown[layer] = x.clone()

    with torch.no_grad(), observing(model, structure, show):
        run()
    return shown


@pytest.mark.parametrize("family", FAMILIES)
def test_streams_are_the_hidden_states_bit_for_bit(family: str) -> None:
    model, batch = build(family), inputs(family)
    structure = find_structure(model, lambda: model(**batch))
    with torch.no_grad():
        states = model(**batch, output_hidden_states=True).hidden_states
    shown = seen(model, lambda: model(**batch), structure)
    depth = len(states) - 1
    assert (structure.depth, structure.width) == (depth, states[0].shape[-1])
    assert tuple(shown) == structure.layers
    for layer in range(depth):
        assert torch.equal(shown[str(layer + 1)], states[layer]), layer
    assert (structure.head is not None) == (family in DECODERS)
    if family != "ViT":  # whose last state is normed once more than its list of states says
        assert torch.equal(shown["unembed"], states[depth])
    else:
        assert torch.equal(shown["unembed"], model(**batch).last_hidden_state)


def test_one_module_that_is_called_for_each_layer_is_counted_by_calls() -> None:
    model = build("Albert")
    structure = find_structure(model, lambda: model(**inputs("Albert")))
    assert (structure.depth, len(structure.blocks)) == (3, 1)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, *, hidden_states: Tensor) -> tuple[Tensor, None]:
        return hidden_states + self.branch(hidden_states), None


class Mine(nn.Module):
    """A model of a user's own: blocks that take the stream by keyword and return a tuple."""

    def __init__(self, width: int = 8, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(16, width)
        self.layers = nn.ModuleList(Block(width) for _ in range(depth))
        self.lm_head = nn.Linear(width, 16)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for layer in self.layers:
            x, _ = layer(hidden_states=x)
        return self.lm_head(x)


TOKENS = torch.arange(12).view(2, 6)


def test_a_users_own_model_is_read_too() -> None:
    model = Mine()
    structure = find_structure(model, lambda: model(TOKENS))
    assert (structure.path, structure.layers, structure.head) == ("layers", ("1", "2", "unembed"), model.lm_head)
    shown = seen(model, lambda: model(TOKENS), structure)
    first = model.embed(TOKENS)
    assert torch.equal(shown["1"], first)
    assert torch.equal(shown["2"], first + model.layers[0].branch(first))


def test_blocks_in_a_sequential_are_found() -> None:
    model = nn.Sequential()
    model.embed, model.body = nn.Embedding(16, 8), nn.Sequential(*(nn.TransformerEncoderLayer(8, 2) for _ in range(3)))
    structure = find_structure(model, lambda: model(TOKENS))
    assert (structure.path, structure.depth, structure.head) == ("body", 3, None)


class Recomputing(Mine):
    """The same, with activations that are not kept for the backward pass."""

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for layer in self.layers:
            x, _ = checkpoint(layer, hidden_states=x, use_reentrant=False)
        return self.lm_head(x)


def test_what_is_computed_again_for_a_gradient_is_not_shown_again() -> None:
    model = Recomputing()
    structure = find_structure(model, lambda: model(TOKENS))
    shown: list[str] = []
    with observing(model, structure, lambda point, layer, x: shown.append(layer)):
        model(TOKENS).sum().backward()
    assert shown == ["1", "2", "unembed"]


def test_hooks_go_when_the_context_ends() -> None:
    model = build("GPT2")
    structure = find_structure(model, lambda: model(**inputs("GPT2")))
    with pytest.raises(KeyError), observing(model, structure, lambda *shown: None):
        raise KeyError
    hooks = [len(one._forward_pre_hooks) + len(one._forward_hooks) for one in model.modules()]
    assert set(hooks) == {0}


def test_a_structure_that_is_not_known_is_told_in_one_message() -> None:
    model = nn.Linear(3, 3)
    with pytest.raises(OfeError, match="blocks of Linear were not found, which are a ModuleList or Sequential"):
        find_structure(model, lambda: model(torch.zeros(1, 2, 3)))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.right = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.left, *self.right):
            x = layer(x)
        return x


def test_of_two_stacks_neither_is_guessed_and_one_may_be_named() -> None:
    model, x = Two(), torch.zeros(1, 4, 8)
    with pytest.raises(OfeError, match="could be left or right"):
        find_structure(model, lambda: model(x))
    assert find_structure(model, lambda: model(x), blocks=model.right).path == "right"
