"""AdamW in both placements behind our builder, against the written equations."""

from __future__ import annotations

import pytest
import torch

from reproduce.optim import build_optimizer

from .toys import Weight, configuration, drive, gradients


@pytest.mark.parametrize("beta1", [0.0, 0.9])
@pytest.mark.parametrize("eps", [0.0, 1e-8, 0.3])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(5, 7), (7,)])
def test_follows_the_equations(shape: tuple[int, ...], beta1: float, eps: float, weight_decay: float) -> None:
    config = configuration("adamw", beta1=beta1, eps=eps, weight_decay=weight_decay)
    model, sequence = Weight(*shape), gradients(*shape, count=25)
    decay = weight_decay if len(shape) == 2 else 0.0

    W, M, V, expected = model.weight.detach().clone(), torch.zeros(shape), torch.zeros(shape), []
    for t, G in enumerate(sequence, start=1):
        W = W - config.lr * decay * W
        M = beta1 * M + (1 - beta1) * G
        V = config.beta2 * V + (1 - config.beta2) * G**2
        W = W - config.lr * (M / (1 - beta1**t)) / ((V / (1 - config.beta2**t)).sqrt() + eps)
        expected.append(W)

    trajectory = drive(build_optimizer(config, model), model.weight, sequence)
    torch.testing.assert_close(torch.stack(trajectory), torch.stack(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("beta1", [0.0, 0.9])
@pytest.mark.parametrize("eps", [1e-8, 0.3])
@pytest.mark.parametrize("shape", [(5, 7), (7,)])
def test_the_placement_of_transformers_follows_its_code(shape: tuple[int, ...], beta1: float, eps: float) -> None:
    """The loop of `AdamW.step` in transformers 4.30, written out: eps before bias correction, decay after the step."""
    config = configuration("adamw", beta1=beta1, eps=eps, weight_decay=0.1, placement="transformers")
    model, sequence = Weight(*shape), gradients(*shape, count=25)
    decay = 0.1 if len(shape) == 2 else 0.0

    W, M, V, expected = model.weight.detach().clone(), torch.zeros(shape), torch.zeros(shape), []
    for t, G in enumerate(sequence, start=1):
        M = M * beta1 + G * (1.0 - beta1)
        V = V * config.beta2 + G * G * (1.0 - config.beta2)
        step_size = config.lr * (1.0 - config.beta2**t) ** 0.5 / (1.0 - beta1**t)
        W = W - step_size * M / (V.sqrt() + eps)
        W = W - config.lr * decay * W
        expected.append(W)

    trajectory = drive(build_optimizer(config, model), model.weight, sequence)
    torch.testing.assert_close(torch.stack(trajectory), torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_the_placements_differ_by_what_eps_counts_at_the_first_step() -> None:
    """With M^ = G and V^ = G^2 the first updates are lr G / (|G| + eps) and lr G / (|G| + eps / sqrt(1 - b2))."""
    moves = {}
    for placement in ("torch", "transformers"):
        model = Weight(3, 4)
        before = model.weight.detach().clone()
        optimizer = build_optimizer(configuration("adamw", eps=1.0, lr=1.0, beta2=0.99, placement=placement), model)
        moves[placement] = drive(optimizer, model.weight, [torch.ones(3, 4, dtype=torch.float64)])[0] - before
    torch.testing.assert_close(moves["torch"], torch.full((3, 4), -1 / 2, dtype=torch.float64))
    torch.testing.assert_close(moves["transformers"], torch.full((3, 4), -1 / 11, dtype=torch.float64))


def test_large_eps_turns_adaptivity_off() -> None:
    """Where eps dwarfs sqrt(V^) the update is lr M^ / eps, linear in the gradient."""
    eps = 1e6
    moves = []
    for scale in (1.0, 10.0):
        model = Weight(3, 4)
        before = model.weight.detach().clone()
        optimizer = build_optimizer(configuration("adamw", eps=eps, lr=eps), model)
        moves.append(drive(optimizer, model.weight, [scale * torch.ones(3, 4, dtype=torch.float64)])[0] - before)
    torch.testing.assert_close(moves[1], 10 * moves[0], rtol=1e-4, atol=0)


def test_is_one_fused_kernel_where_the_device_has_one() -> None:
    optimizer = build_optimizer(configuration("adamw"), Weight(3, 4))
    assert optimizer.param_groups[0]["fused"] is True
