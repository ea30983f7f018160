"""SGD with momentum as a moving average."""

from __future__ import annotations

import pytest
import torch

from reproduce.optim import build_optimizer

from .toys import Weight, configuration, drive, gradients


@pytest.mark.parametrize("beta1", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_follows_the_equations(beta1: float, weight_decay: float) -> None:
    config = configuration("sgd", beta1=beta1, weight_decay=weight_decay)
    model, sequence = Weight(5, 7), gradients(5, 7, count=25)
    W, M, expected = model.weight.detach().clone(), torch.zeros(5, 7), []
    for G in sequence:
        M = beta1 * M + (1 - beta1) * G
        W = W - config.lr * weight_decay * W - config.lr * M
        expected.append(W)
    trajectory = drive(build_optimizer(config, model), model.weight, sequence)
    torch.testing.assert_close(torch.stack(trajectory), torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_equals_torch_sgd_at_a_tenth_of_the_rate() -> None:
    """PyTorch sums gradients where this averages them: lr (1 - b1) there is lr here."""
    ours, theirs, sequence = Weight(4, 3), Weight(4, 3), gradients(4, 3, count=20)
    reference = torch.optim.SGD([theirs.weight], lr=1e-3, momentum=0.9)
    expected = drive(reference, theirs.weight, sequence)
    trajectory = drive(build_optimizer(configuration("sgd", lr=1e-2, beta1=0.9), ours), ours.weight, sequence)
    torch.testing.assert_close(torch.stack(trajectory), torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_a_constant_gradient_is_reached_geometrically() -> None:
    model, G = Weight(3), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    before = model.weight.detach().clone()
    steps = drive(build_optimizer(configuration("sgd", lr=1.0, beta1=0.5), model), model.weight, [G] * 3)
    torch.testing.assert_close(before - steps[0], 0.5 * G)
    torch.testing.assert_close(steps[1] - steps[2], 0.875 * G)
