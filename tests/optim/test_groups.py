"""Which parameters decay, and that each is optimised once."""

from __future__ import annotations

from torch import nn

from reproduce.optim.groups import parameter_groups

from .toys import Toy


def names(model: nn.Module, parameters: list[nn.Parameter]) -> set[str]:
    return {name for name, parameter in model.named_parameters() if any(parameter is other for other in parameters)}


def test_matrices_and_embeddings_decay_and_nothing_else_does() -> None:
    model = Toy()
    decaying, constant = parameter_groups(model, 0.1)
    assert decaying["weight_decay"] == 0.1
    assert names(model, decaying["params"]) == {"embed.weight", "hidden.weight", "unembed.weight"}
    assert constant["weight_decay"] == 0.0
    assert names(model, constant["params"]) == {"norm.weight", "norm.bias", "hidden.bias", "layer_scale", "skip_init"}


def test_every_parameter_is_in_exactly_one_group() -> None:
    model = Toy()
    grouped = [id(parameter) for group in parameter_groups(model, 0.1) for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())


def test_a_tied_matrix_is_in_one_group_once() -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    model[1].weight = model[0].weight
    (group,) = parameter_groups(model, 0.1)
    assert len(group["params"]) == 1


def test_what_is_not_trained_is_in_no_group() -> None:
    model = Toy()
    model.layer_scale.requires_grad_(False)
    _, constant = parameter_groups(model, 0.1)
    assert "layer_scale" not in names(model, constant["params"])


def test_an_empty_group_is_left_out() -> None:
    (group,) = parameter_groups(nn.Linear(3, 5, bias=False), 0.1)
    assert group["weight_decay"] == 0.1
