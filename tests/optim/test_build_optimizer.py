"""What holds for every optimiser: built by name, resumed exactly, deterministic, and it learns."""

from __future__ import annotations

import io
from contextlib import nullcontext

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.optim import Optimizer

from reproduce.config import OptimizerConfig
from reproduce.optim import build_optimizer
from reproduce.optim.adafactor import AdaFactor
from reproduce.optim.groups import set_learning_rate
from reproduce.optim.sgd import Sgd
from reproduce.optim.soap import RotatedAdaFactor, Soap

from .toys import NAMES, ROTATED, Toy, Weight, configuration, drive, gradients, train

KINDS: dict[str, type[Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "sgd": Sgd,
    "adafactor": AdaFactor,
    "soap": Soap,
    "adafactor-rotated": RotatedAdaFactor,
}


def config_for(name: str) -> OptimizerConfig:
    rotation = {"precond_freq": 5, "max_precond_dim": 10} if name in ROTATED else {}
    return configuration(name, weight_decay=0.1, **rotation)


def built(name: str, seed: int = 0) -> tuple[Toy, Optimizer]:
    model = Toy(seed)
    return model, build_optimizer(config_for(name), model)


def weights(model: Toy) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def identical(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_every_configured_name_is_built() -> None:
    assert set(NAMES) == set(KINDS)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_builds_its_own_kind_with_a_group_for_each_role(name: str) -> None:
    _, optimizer = built(name)
    assert type(optimizer) is KINDS[name]
    groups = [(group["role"], len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups]
    assert groups == [("embedding", 2, 0.1), ("matrix", 1, 0.1), ("vector", 3, 0.0), ("gain", 2, 0.0)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("field", "value"),
    [("beta1", 0.5), ("beta2", 0.5), ("eps", 0.1), ("weight_decay", 0.1), ("precond_freq", 3), ("max_precond_dim", 1)],
)
def test_a_constant_is_refused_where_it_changes_no_weight_and_only_there(name: str, field: str, value: float) -> None:
    default = OptimizerConfig.model_validate({"name": name, "lr": 1e-2})
    trajectories = []
    for config in (default, default.model_copy(update={field: value})):  # a copy is not validated
        model = Weight(4, 5)
        trajectories.append(drive(build_optimizer(config, model), model.weight, gradients(4, 5, count=12)))
    refused = pytest.raises(ValidationError, match=f"{field} has no effect on {name}")
    with refused if identical(*trajectories) else nullcontext():
        OptimizerConfig.model_validate({"name": name, "lr": 1e-2, field: value})


@pytest.mark.parametrize(("name", "kind"), [("sgd", Sgd), ("adafactor", AdaFactor), ("soap", Soap)])
def test_a_group_that_names_no_weight_decay_has_none(name: str, kind: type[Sgd | AdaFactor | Soap]) -> None:
    optimizer = kind([{"params": [Weight(4, 5).weight]}], configuration(name))
    assert optimizer.param_groups[0]["weight_decay"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_rate_is_read_from_the_groups_at_each_step(name: str) -> None:
    model, optimizer = built(name)
    train(model, optimizer, 0, 2)
    before = weights(model)
    set_learning_rate(optimizer, 0.0)
    train(model, optimizer, 2, 3)
    assert identical(weights(model), before)


@pytest.mark.parametrize("name", NAMES)
def test_decay_reaches_matrices_and_spares_vectors(name: str) -> None:
    """Under gradients of zero, from the second call on, weight decay is all that moves a parameter."""
    model, optimizer = built(name)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    for _ in range(2):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    calls = 1 if name in ("soap", "adafactor-rotated") else 2
    for key, parameter in model.named_parameters():
        factor = (1 - 1e-2 * 0.1) ** calls if parameter.ndim >= 2 else 1.0
        torch.testing.assert_close(parameter.detach(), before[key] * factor)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("at", [1, 13, 15])
def test_a_resumed_run_is_the_uninterrupted_run_bit_for_bit(name: str, at: int) -> None:
    straight, optimizer = built(name)
    train(straight, optimizer, 0, 26)

    interrupted, optimizer = built(name)
    train(interrupted, optimizer, 0, at)
    file = io.BytesIO()
    torch.save({"model": interrupted.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    checkpoint = torch.load(file, weights_only=True)

    resumed, optimizer = built(name, seed=1)
    resumed.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    train(resumed, optimizer, at, 26)
    assert identical(weights(resumed), weights(straight))


@pytest.mark.parametrize("name", NAMES)
def test_two_runs_are_the_same_bit_for_bit(name: str) -> None:
    runs = []
    for _ in range(2):
        model, optimizer = built(name)
        train(model, optimizer, 0, 20)
        runs.append(weights(model))
    assert identical(*runs)


@pytest.mark.parametrize("name", NAMES)
def test_it_learns(name: str) -> None:
    model = Toy()
    rate = 1.0 if name == "sgd" else 2e-2
    losses = train(model, build_optimizer(configuration(name, lr=rate), model), 0, 150)
    assert sum(losses[-10:]) / 10 < 0.2 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_without_gradient_is_left_alone(name: str) -> None:
    model, optimizer = built(name)
    before = model.hidden.weight.detach().clone()
    for parameter in (model.embed.weight, model.layer_scale):
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    optimizer.step()
    assert torch.equal(model.hidden.weight.detach(), before)
    assert model.hidden.weight not in optimizer.state


@pytest.mark.parametrize("name", [name for name in NAMES if name != "adamw"])
def test_a_closure_recomputes_the_loss(name: str) -> None:
    model, optimizer = built(name)

    def closure() -> float:
        loss = model(torch.arange(12)).square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) > 0
    assert model.hidden.weight.grad is not None


def test_weights_below_float32_are_refused() -> None:
    with pytest.raises(AssertionError):
        build_optimizer(configuration("adamw"), Toy().bfloat16())
