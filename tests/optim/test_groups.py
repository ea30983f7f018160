"""Which role a parameter has, which roles decay, and that each parameter is optimised once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from reproduce.config import MlpConfig, OptimizerConfig, TransformerConfig, VitConfig
from reproduce.errors import OfeError
from reproduce.models.mlp import Mlp
from reproduce.models.transformer import Transformer
from reproduce.models.variants import VARIANTS
from reproduce.models.vit import Vit
from reproduce.optim import build_optimizer
from reproduce.optim.groups import parameter_groups, parameter_roles, set_learning_rate
from reproduce.optim.records import GroupRule

from .toys import Toy, train


def names(model: nn.Module, parameters: list[nn.Parameter]) -> set[str]:
    return {name for name, parameter in model.named_parameters() if any(parameter is other for other in parameters)}


def transformer(variant: str = "pre-ln", gains: str = "fixed", *, tied: bool = False) -> Transformer:
    block = VARIANTS[variant] | {"gains": gains}
    if variant != "post-ln":
        block |= {"final_norm": "ln"}
    model = {"layers": 1, "width": 4, "heads": 2, "biases": "all", "tied": tied, "block": block}
    return Transformer(TransformerConfig.model_validate(model), 7, 5)


def test_matrices_and_embeddings_decay_and_nothing_else_does() -> None:
    model = Toy()
    found = {group["role"]: (group["weight_decay"], names(model, group["params"])) for group in built(model)}
    assert found == {
        "embedding": (0.1, {"embed.weight", "unembed.weight"}),
        "matrix": (0.1, {"hidden.weight"}),
        "vector": (0.0, {"norm.weight", "norm.bias", "hidden.bias"}),
        "gain": (0.0, {"layer_scale", "skip_init"}),
    }


def built(model: nn.Module) -> list[dict[str, Any]]:
    return parameter_groups(model, 0.1)


def test_roles_of_a_transformer() -> None:
    roles = parameter_roles(transformer(gains="scalar"))
    linears = [f"attention.{name}" for name in ("query", "key", "value", "project")] + ["mlp.up", "mlp.down"]
    norms = ["blocks.0.attention.norm_qk", "blocks.0.mlp.norm", "final_norm"]
    assert roles == (
        dict.fromkeys(("token_embedding.weight", "position_embedding.weight", "unembedding.weight"), "embedding")
        | {f"blocks.0.{name}.weight": "matrix" for name in linears}
        | {f"blocks.0.{name}.bias": "vector" for name in linears}
        | {f"{norm}.{name}": "vector" for norm in norms for name in ("gain", "bias")}
        | dict.fromkeys(("blocks.0.attn_gain", "blocks.0.mlp_gain"), "gain")
    )


def test_both_ends_of_an_image_model_are_embeddings() -> None:
    def embeddings(model: nn.Module) -> set[str]:
        return {name for name, role in parameter_roles(model).items() if role == "embedding"}

    vit = VitConfig.model_validate({"layers": 1, "width": 4, "heads": 2, "patch": 2, "block": {"gains": "vector"}})
    found = parameter_roles(Vit(vit, 4, 3))
    assert embeddings(Vit(vit, 4, 3)) == {"patches.weight", "class_token", "positions", "head.weight"}
    assert found["patches.bias"] == found["head.bias"] == "vector"
    assert found["blocks.0.attn_gain"] == "gain"
    assert embeddings(Mlp(MlpConfig(layers=1, width=4), 12, 3)) == {"embedding.weight", "readout.weight"}


@pytest.mark.parametrize("gains", ["fixed", "scalar", "vector"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_decays_is_what_has_two_axes(variant: str, gains: str) -> None:
    """The division of the paper's code: a role never decays what it does not, and never spares what it decays."""
    vit = {"layers": 1, "width": 4, "heads": 2, "patch": 2, "block": VARIANTS[variant] | {"gains": gains}}
    for model in (
        transformer(variant, gains),
        Vit(VitConfig.model_validate(vit), 4, 3),
        Mlp(MlpConfig(layers=1, width=4, norm="ln"), 12, 3),
    ):
        groups = [group for group in parameter_groups(model, 0.1) if group["weight_decay"] == 0.1]
        decaying = [parameter for group in groups for parameter in group["params"]]
        assert names(model, decaying) == {name for name, p in model.named_parameters() if p.ndim >= 2}


def test_a_name_that_a_model_gives_a_role_is_a_parameter_of_it() -> None:
    for model in (transformer(gains="vector"), Mlp(MlpConfig(layers=1, width=4), 12, 3)):
        for module in model.modules():
            assert getattr(module, "ROLES", {}).keys() <= dict(module.named_parameters()).keys()
    vit = Vit(VitConfig(layers=1, width=4, heads=2, patch=2), 4, 3)
    assert Vit.ROLES.keys() <= dict(vit.named_parameters()).keys()


def test_every_parameter_is_in_exactly_one_group() -> None:
    for model in (Toy(), transformer(gains="vector"), transformer(tied=True)):
        grouped = [id(parameter) for group in parameter_groups(model, 0.1) for parameter in group["params"]]
        assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())


def test_a_tied_matrix_is_in_one_group_once_as_an_embedding() -> None:
    model = transformer(tied=True)
    (embeddings,) = [group["params"] for group in parameter_groups(model, 0.1) if group["role"] == "embedding"]
    assert names(model, embeddings) == {"token_embedding.weight", "position_embedding.weight"}


def test_what_is_not_trained_is_in_no_group() -> None:
    model = Toy()
    model.layer_scale.requires_grad_(False)
    model.skip_init.requires_grad_(False)
    assert [group["role"] for group in parameter_groups(model, 0.1)] == ["embedding", "matrix", "vector"]


def test_a_role_without_parameters_has_no_group() -> None:
    (group,) = parameter_groups(nn.Linear(3, 5, bias=False), 0.1)
    assert (group["role"], group["weight_decay"], group["rate_scale"]) == ("matrix", 0.1, 1.0)


def test_a_rule_of_an_optimiser_replaces_that_of_the_role() -> None:
    groups = parameter_groups(Toy(), 0.1, {"gain": GroupRule(decays=True, rate_scale=0.5)})
    assert [(group["weight_decay"], group["rate_scale"]) for group in groups] == [
        (0.1, 1.0),
        (0.1, 1.0),
        (0.0, 1.0),
        (0.1, 0.5),
    ]


def test_a_rule_that_matches_no_parameter_is_refused() -> None:
    with pytest.raises(OfeError, match="a rule for gain parameters, and the model has none") as caught:
        parameter_groups(nn.Linear(3, 5), 0.1, {"gain": GroupRule(decays=True)})
    assert caught.value.exit_code == 2


def test_the_rate_of_a_step_is_scaled_by_role() -> None:
    model = Toy()
    groups = parameter_groups(model, 0.0, {"matrix": GroupRule(decays=True, rate_scale=3.0)})
    optimizer = torch.optim.SGD(groups, lr=9.0)
    set_learning_rate(optimizer, 0.25)
    assert {group["role"]: group["lr"] for group in optimizer.param_groups} == {
        "embedding": 0.25,
        "matrix": 0.75,
        "vector": 0.25,
        "gain": 0.25,
    }


@pytest.mark.parametrize("name", ["adamw", "soap"])
def test_how_parameters_are_divided_into_groups_moves_no_bit(name: str) -> None:
    """Against two groups by the number of axes, as they were before roles: the updates are those of each parameter."""
    config = OptimizerConfig.model_validate({"name": name, "lr": 1e-2, "weight_decay": 0.1})
    weights = []
    for by_axes in (False, True):
        model = Toy()
        optimizer = build_optimizer(config, model)
        if by_axes:
            options = {**optimizer.param_groups[0]}
            optimizer.param_groups.clear()
            for decays in (True, False):
                parameters = [parameter for parameter in model.parameters() if (parameter.ndim >= 2) == decays]
                optimizer.add_param_group(options | {"params": parameters, "weight_decay": 0.1 * decays})
        train(model, optimizer, 0, 20)
        weights.append(list(model.parameters()))
    assert all(torch.equal(left, right) for left, right in zip(*weights, strict=True))
