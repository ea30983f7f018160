"""AdaFactor as the paper has it, against its equations and against AdamW."""

from __future__ import annotations

import pytest
import torch

from reproduce.optim import build_optimizer

from .toys import Weight, configuration, drive, gradients, rank_one_squares


@pytest.mark.parametrize("beta1", [0.0, 0.9])
@pytest.mark.parametrize("eps", [1e-8, 0.3])
def test_follows_the_equations(beta1: float, eps: float) -> None:
    config = configuration("adafactor", beta1=beta1, eps=eps, weight_decay=0.1)
    model, sequence = Weight(5, 7), gradients(5, 7, count=25)
    b2 = config.beta2
    W, M, r, c, expected = model.weight.detach().clone(), torch.zeros(5, 7), torch.zeros(5), torch.zeros(7), []
    for t, G in enumerate(sequence, start=1):
        W = W - config.lr * 0.1 * W
        M = beta1 * M + (1 - beta1) * G
        r = b2 * r + (1 - b2) * (G**2).mean(1)
        c = b2 * c + (1 - b2) * (G**2).mean(0)
        V = r[:, None] * c[None, :] / r.mean()
        W = W - config.lr * (M / (1 - beta1**t)) / ((V / (1 - b2**t)).sqrt() + eps)
        expected.append(W)
    trajectory = drive(build_optimizer(config, model), model.weight, sequence)
    torch.testing.assert_close(torch.stack(trajectory), torch.stack(expected), rtol=1e-12, atol=1e-12)


def same_as_adamw(sequence: list[torch.Tensor]) -> bool:
    shape = sequence[0].shape
    trajectories = []
    for name in ("adafactor", "adamw"):
        model = Weight(*shape)
        optimizer = build_optimizer(configuration(name, weight_decay=0.1, eps=1e-3), model)
        trajectories.append(torch.stack(drive(optimizer, model.weight, sequence)))
    ours, theirs = trajectories
    return torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_is_adamw_where_the_second_moment_has_rank_one() -> None:
    assert same_as_adamw(rank_one_squares(5, 7, count=20))


def test_is_not_adamw_where_it_has_not() -> None:
    assert not same_as_adamw(gradients(5, 7, count=20))


@pytest.mark.parametrize("shape", [(6,), ()])
def test_vectors_and_scalars_are_plain_adamw(shape: tuple[int, ...]) -> None:
    assert same_as_adamw(gradients(*shape, count=20))


def test_a_kernel_is_treated_as_its_outputs_by_its_inputs() -> None:
    kernel, matrix = Weight(4, 3, 2, 2), Weight(4, 12)
    sequence = gradients(4, 3, 2, 2, count=10)
    ours = drive(build_optimizer(configuration("adafactor"), kernel), kernel.weight, sequence)
    flat = drive(build_optimizer(configuration("adafactor"), matrix), matrix.weight, [g.flatten(1) for g in sequence])
    torch.testing.assert_close(ours[-1].flatten(1), flat[-1])


def test_memory_is_that_of_one_moment_and_two_vectors() -> None:
    model = Weight(5, 7)
    optimizer = build_optimizer(configuration("adafactor"), model)
    drive(optimizer, model.weight, gradients(5, 7, count=1))
    state = optimizer.state[model.weight]
    assert {key: tuple(value.shape) for key, value in state.items() if key != "step"} == {
        "M": (5, 7),
        "r": (5,),
        "c": (7,),
    }


def test_a_matrix_without_gradient_signal_stays_finite() -> None:
    """A zero readout gives every earlier matrix the gradient 0 at the first step."""
    model = Weight(3, 4)
    before = model.weight.detach().clone()
    after = drive(
        build_optimizer(configuration("adafactor"), model), model.weight, [torch.zeros(3, 4, dtype=torch.float64)]
    )
    assert torch.equal(after[0], before)
