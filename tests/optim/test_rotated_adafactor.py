"""AdaFactor in Shampoo's eigenbasis: Shampoo with exponent 1/2, and AdaFactor where nothing is rotated."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from reproduce.optim import build_optimizer
from reproduce.optim.eigenbasis import eigenvectors

from .toys import (
    Weight,
    apart,
    configuration,
    drive,
    drive_rotated,
    drive_with_early_eps,
    gradients,
    keep_to_the_axes,
    rank_one_squares,
)


def inverse_root(statistic: Tensor) -> Tensor:
    """S^(-1/2) of a symmetric positive matrix."""
    values, vectors = torch.linalg.eigh(statistic)
    return vectors @ torch.diag(values**-0.5) @ vectors.T


def test_with_exact_statistics_it_is_shampoo_with_exponent_one_half() -> None:
    """Q_L [G' / sqrt(V')] Q_R^T = sqrt(tr L) L^(-1/2) G R^(-1/2), V' being of the gradients that make L and R.

    The state is set to the exact statistics of a long history, in the eigenvectors of the L and R that the next
    gradient will complete; b1 = 0 and eps = 0. Of the step, the rate with its bias correction is divided out.
    """
    config = configuration("adafactor-rotated", beta1=0.0, eps=0.0)
    b2, (m, n) = config.beta2, (5, 8)
    model = Weight(m, n)
    optimizer = build_optimizer(config, model)
    drive(optimizer, model.weight, gradients(m, n, count=1))
    state = optimizer.state[model.weight]

    *history, G = gradients(m, n, count=40, seed=3)
    L_before = sum(g @ g.T for g in history) / len(history)
    R_before = sum(g.T @ g for g in history) / len(history)
    L, R = b2 * L_before + (1 - b2) * G @ G.T, b2 * R_before + (1 - b2) * G.T @ G
    Q_L, Q_R = eigenvectors(L), eigenvectors(R)
    state |= {"Q_L": Q_L, "Q_R": Q_R, "step": 99}
    state |= {"r": (Q_L.T @ L_before @ Q_L).diag() / n, "c": (Q_R.T @ R_before @ Q_R).diag() / m}

    before = model.weight.detach().clone()
    (after,) = drive(optimizer, model.weight, [G])
    direction = (before - after) / (config.lr * math.sqrt(1 - b2**100))
    shampoo = L.trace().sqrt() * inverse_root(L) @ G @ inverse_root(R)
    torch.testing.assert_close(direction, shampoo, rtol=1e-9, atol=1e-9)


def test_a_gradient_that_never_changes_has_its_singular_values_inverted() -> None:
    """The same identity through the front door: L^(-1/2) G R^(-1/2) = U S^(-1) V^T for every G = U S V^T fed so far."""
    config = configuration("adafactor-rotated", beta1=0.0, eps=0.0, precond_freq=7)
    model, (G,) = Weight(6, 6), gradients(6, 6, count=1)
    trajectory = drive(build_optimizer(config, model), model.weight, [G] * 25)
    U, S, Vh = torch.linalg.svd(G)
    # V' and its bias correction use the same 1 - b2^t, so the direction does not depend on t.
    expected = S.square().sum().sqrt() * U @ torch.diag(1 / S) @ Vh
    for previous, now in itertools.pairwise(trajectory):
        torch.testing.assert_close((previous - now) / config.lr, expected, rtol=1e-6, atol=1e-6)


def test_is_adafactor_after_its_first_call_where_nothing_is_rotated() -> None:
    sequence = gradients(6, 5, count=30)
    rotated, plain = Weight(6, 5), Weight(6, 5)
    config = configuration("adafactor-rotated", max_precond_dim=1, eps=0.0)
    trajectory = drive(build_optimizer(config, rotated), rotated.weight, sequence)
    adafactor = build_optimizer(configuration("adafactor", eps=0.0), plain)
    expected = drive(adafactor, plain.weight, sequence[1:])
    torch.testing.assert_close(torch.stack(trajectory[1:]), torch.stack(expected), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shuffled", [False, True], ids=["identity", "permutations"])
def test_is_adam_where_the_second_moment_has_rank_one_besides(shuffled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sequence = rank_one_squares(6, 5, count=30)
    adam = drive_with_early_eps("adamw", sequence[1:], 0.3)
    assert apart(drive_rotated("adafactor-rotated", sequence, eps=0.3), adam) > 0.1
    keep_to_the_axes(monkeypatch, shuffled=shuffled)
    torch.testing.assert_close(drive_rotated("adafactor-rotated", sequence, eps=0.3), adam, rtol=1e-10, atol=1e-12)


def long_vocabulary(max_dim: int) -> tuple[dict[str, Any], list[Tensor]]:
    """What is kept of 20 tokens of width 6 after 8 gradients, and those gradients."""
    model = Weight(20, 6)
    optimizer = build_optimizer(configuration("adafactor-rotated", max_precond_dim=max_dim, precond_freq=3), model)
    sequence = gradients(20, 6, count=8)
    drive(optimizer, model.weight, sequence)
    return optimizer.state[model.weight], sequence


def test_both_axes_are_rotated_where_none_is_too_long() -> None:
    state, _ = long_vocabulary(max_dim=100)
    assert state.keys() == {"step", "M", "r", "c", "L", "Q_L", "R", "Q_R"}


def test_a_vocabulary_too_long_to_rotate_keeps_its_factor() -> None:
    """Row means of squares do not see a rotation of the columns: the tokens' factor is AdaFactor's own."""
    state, sequence = long_vocabulary(max_dim=8)
    assert state.keys() == {"step", "M", "r", "c", "R", "Q_R"}
    weights = [0.05 * 0.95 ** (len(sequence) - 1 - t) for t in range(1, len(sequence))]
    expected = sum(w * g.square().mean(1) for w, g in zip(weights, sequence[1:], strict=True))
    torch.testing.assert_close(state["r"], expected)
