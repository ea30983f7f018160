"""Small models and gradient sequences that the tests of the optimisers share."""

from __future__ import annotations

import math
from typing import Any, ClassVar, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reproduce.config import OptimizerConfig
from reproduce.optim import build_optimizer, eigenbasis
from reproduce.optim.records import OPTIMIZERS

NAMES: tuple[str, ...] = get_args(OptimizerConfig.model_fields["name"].annotation)
ROTATED = ("soap", "adafactor-rotated")
CONSTANTS = {"beta1": 0.9, "beta2": 0.95}
"""The constants of the tests, for the optimisers that read them."""


def configuration(name: str, **fields: Any) -> OptimizerConfig:
    constants = {field: value for field, value in CONSTANTS.items() if field in OPTIMIZERS[name].reads}
    return OptimizerConfig.model_validate({"name": name, "lr": 1e-2} | constants | fields)


class Weight(nn.Module):
    """A model of one parameter, for driving an optimiser with gradients of our choice."""

    def __init__(self, *shape: int, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype))


def gradients(*shape: int, count: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Gaussian gradients with a different scale in each row and column, so that no two directions are alike."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.ones(shape, dtype=dtype)
    for axis, size in enumerate(shape):
        scale = scale * torch.logspace(-0.5, 0.5, size, dtype=dtype).view(
            [-1 if a == axis else 1 for a in range(len(shape))]
        )
    return [scale * torch.randn(shape, generator=generator, dtype=dtype) for _ in range(count)]


def drive(optimizer: Optimizer, weight: Tensor, sequence: list[Tensor]) -> list[Tensor]:
    """Weights after each step of `optimizer` on the given gradients."""
    trajectory = []
    for gradient in sequence:
        weight.grad = gradient.clone()
        optimizer.step()
        trajectory.append(weight.detach().clone())
    return trajectory


def rank_one_squares(rows: int, columns: int, count: int) -> list[Tensor]:
    """Gradients of fixed magnitudes a_i b_j and random signs, swelling over time: V = (avg s_t^2) a^2 b^2'."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(size, generator=generator, dtype=torch.float64) + 0.1 for size in (rows, columns))
    signs = torch.randn(count, rows, columns, generator=generator, dtype=torch.float64).sign()
    return [(1 + t) * torch.outer(a, b) * sign for t, sign in enumerate(signs)]


def keep_to_the_axes(monkeypatch: pytest.MonkeyPatch, *, shuffled: bool) -> None:
    """Every eigenbasis is the identity from now on; if `shuffled`, a permutation, another at each change of basis."""
    generator = torch.Generator().manual_seed(0)

    def order(size: int) -> Tensor:
        return torch.randperm(size, generator=generator) if shuffled else torch.arange(size)

    def eigenvectors(statistic: Tensor) -> Tensor:
        return torch.eye(len(statistic), dtype=statistic.dtype)[:, order(len(statistic))]

    def power_iteration(statistic: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
        columns = order(len(statistic))
        return basis[:, columns], columns

    monkeypatch.setattr(eigenbasis, "eigenvectors", eigenvectors)
    monkeypatch.setattr(eigenbasis, "power_iteration", power_iteration)


def drive_with_early_eps(name: str, sequence: list[Tensor], eps: float, **fields: Any) -> Tensor:
    """Weights after each step of `name` with eps added where SOAP has it, before bias correction.

    sqrt(V) + eps, corrected, is sqrt(V^) + eps / sqrt(1 - b2^t).
    """
    config, model = configuration(name, **fields), Weight(*sequence[0].shape)
    optimizer = build_optimizer(config, model)
    trajectory = []
    for t, gradient in enumerate(sequence, start=1):
        for group in optimizer.param_groups:
            group["eps"] = eps / math.sqrt(1 - config.beta2**t)
        trajectory += drive(optimizer, model.weight, [gradient])
    return torch.stack(trajectory)


def drive_rotated(name: str, sequence: list[Tensor], **fields: Any) -> Tensor:
    """Weights after each step of the rotated optimiser `name`, but for the first call, which moves nothing."""
    model = Weight(*sequence[0].shape)
    optimizer = build_optimizer(configuration(name, precond_freq=4, **fields), model)
    trajectory = drive(optimizer, model.weight, sequence)
    assert {"Q_L", "Q_R"} <= optimizer.state[model.weight].keys()
    return torch.stack(trajectory[1:])


def apart(left: Tensor, right: Tensor) -> float:
    """Distance of two trajectories from the same weights, over the length of one."""
    return ((left - right).norm() / (right - right[0]).norm()).item()


class Toy(nn.Module):
    """A language model in miniature: every kind of parameter that the paper's models have."""

    ROLES: ClassVar[dict[str, str]] = {"unembed.weight": "embedding", "layer_scale": "gain", "skip_init": "gain"}

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embed = nn.Embedding(12, 6)
        self.norm = nn.LayerNorm(6)
        self.hidden = nn.Linear(6, 10)
        self.layer_scale = nn.Parameter(torch.full((10,), 0.5))
        self.skip_init = nn.Parameter(torch.tensor(0.5))
        self.unembed = nn.Linear(10, 12, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.layer_scale * torch.tanh(self.hidden(self.norm(self.embed(tokens))))
        return self.skip_init * self.unembed(hidden)


def train(model: nn.Module, optimizer: Optimizer, start: int, stop: int) -> list[float]:
    """Losses of steps `start` to `stop`, predicting token (3 t + 1) mod 12 after t; the step alone fixes the data."""
    losses = []
    for step in range(start, stop):
        tokens = torch.randint(12, (32,), generator=torch.Generator().manual_seed(step))
        loss = nn.functional.cross_entropy(model(tokens), (3 * tokens + 1) % 12)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
