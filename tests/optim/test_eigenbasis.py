"""Shampoo's eigenbasis: its start, its tracking, and its edge cases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from reproduce.optim import eigenbasis

from .toys import apart, drive_rotated, drive_with_early_eps, gradients, keep_to_the_axes


def started(*shape: int, max_dim: int = 100) -> dict[str, Any]:
    return dict(eigenbasis.start(gradients(*shape, count=1)[0], 0.9, max_dim))


def off_diagonal(statistic: Tensor, basis: Tensor) -> float:
    rotated = basis.T @ statistic @ basis
    return ((rotated - rotated.diag().diag()).norm() / rotated.norm()).item()


@pytest.mark.parametrize("shape", [(6, 6), (4, 9)])
def test_the_first_basis_diagonalises_the_statistics_with_falling_eigenvalues(shape: tuple[int, int]) -> None:
    (G,) = gradients(*shape, count=1)
    state = eigenbasis.start(G, 0.9, 100)
    torch.testing.assert_close(state["L"], 0.1 * G @ G.T)
    torch.testing.assert_close(state["R"], 0.1 * G.T @ G)
    for statistic, basis in ((state["L"], state["Q_L"]), (state["R"], state["Q_R"])):
        torch.testing.assert_close(basis.T @ basis, torch.eye(len(basis), dtype=basis.dtype))
        assert off_diagonal(statistic, basis) < 1e-12
        values = (basis.T @ statistic @ basis).diag()
        assert (values.diff() < 1e-12).all()


def test_rotating_back_undoes_rotating_and_keeps_the_norm() -> None:
    state, (G,) = started(4, 9), gradients(4, 9, count=1, seed=7)
    rotated = eigenbasis.rotate(G, state)
    torch.testing.assert_close(rotated, state["Q_L"].T @ G @ state["Q_R"])
    torch.testing.assert_close(eigenbasis.rotate_back(rotated, state), G)
    torch.testing.assert_close(rotated.norm(), G.norm())


def test_statistics_are_moving_averages() -> None:
    first, second = gradients(4, 9, count=2)
    state = dict(eigenbasis.start(first, 0.9, 100))
    eigenbasis.accumulate(state, second, 0.9)
    torch.testing.assert_close(state["L"], 0.09 * first @ first.T + 0.1 * second @ second.T)
    torch.testing.assert_close(state["R"], 0.09 * first.T @ first + 0.1 * second.T @ second)


def test_an_axis_longer_than_the_limit_is_not_rotated() -> None:
    state = started(4, 9, max_dim=8)
    assert state.keys() == {"L", "Q_L"}
    (G,) = gradients(4, 9, count=1, seed=7)
    torch.testing.assert_close(eigenbasis.rotate(G, state), state["Q_L"].T @ G)
    rows, columns = eigenbasis.refresh(state)
    assert rows is not None
    assert columns is None


def test_an_axis_as_long_as_the_limit_is_rotated() -> None:
    assert started(4, 9, max_dim=9).keys() == {"L", "Q_L", "R", "Q_R"}
    assert started(9, 4, max_dim=9).keys() == {"L", "Q_L", "R", "Q_R"}


def test_vectors_and_scalars_have_no_basis() -> None:
    assert eigenbasis.start(torch.ones(3), 0.9, 100) == {}
    assert eigenbasis.start(torch.tensor(1.0), 0.9, 100) == {}


def test_power_iterations_find_the_eigenvectors_of_a_new_statistic() -> None:
    torch.manual_seed(0)
    directions = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    statistic = directions @ torch.diag(2.0 ** -torch.arange(6, dtype=torch.float64)) @ directions.T
    basis = torch.eye(6, dtype=torch.float64)
    errors = []
    for _ in range(40):
        basis, _order = eigenbasis.power_iteration(statistic, basis)
        errors.append(off_diagonal(statistic, basis))
    assert errors[0] > 0.01
    assert errors[-1] < 1e-9
    torch.testing.assert_close(basis.T @ basis, torch.eye(6, dtype=torch.float64))


def test_columns_are_sorted_by_rayleigh_quotient_and_the_order_says_so() -> None:
    statistic = torch.diag(torch.tensor([1.0, 3.0, 2.0]))
    basis, order = eigenbasis.power_iteration(statistic, torch.eye(3))
    assert order.tolist() == [1, 2, 0]
    torch.testing.assert_close(basis.abs(), torch.eye(3)[:, order])


def test_a_failed_eigendecomposition_is_repeated_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    eigh = torch.linalg.eigh

    def fails_in_float32(matrix: Tensor) -> Any:
        if matrix.dtype == torch.float32:
            raise torch.linalg.LinAlgError("the algorithm failed to converge")
        return eigh(matrix)

    (G,) = gradients(5, 5, count=1, dtype=torch.float32)
    expected = eigenbasis.eigenvectors(G @ G.T)
    monkeypatch.setattr(torch.linalg, "eigh", fails_in_float32)
    retried = eigenbasis.eigenvectors(G @ G.T)
    assert retried.dtype == torch.float32
    torch.testing.assert_close(retried.abs(), expected.abs(), rtol=1e-3, atol=1e-4)


def test_a_zero_gradient_gives_a_finite_basis_that_stays_finite() -> None:
    state: dict[str, Any] = dict(eigenbasis.start(torch.zeros(3, 5), 0.9, 100))
    eigenbasis.refresh(state)
    for key, size in (("Q_L", 3), ("Q_R", 5)):
        torch.testing.assert_close(state[key].T @ state[key], torch.eye(size))


@pytest.mark.parametrize(("rotated", "plain"), [("soap", "adamw"), ("adafactor-rotated", "adafactor")])
@pytest.mark.parametrize("shuffled", [False, True], ids=["identity", "permutations"])
@pytest.mark.parametrize(("beta1", "eps"), [(0.0, 1e-8), (0.9, 1e-8), (0.9, 0.3)])
def test_an_optimiser_is_its_plain_one_where_the_eigenbases_are_the_axes(
    rotated: str, plain: str, shuffled: bool, beta1: float, eps: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the rotation at work, through seven changes of basis; the plain moments are those of the later gradients."""
    sequence = gradients(6, 5, count=30)
    expected = drive_with_early_eps(plain, sequence[1:], eps, beta1=beta1)
    assert apart(drive_rotated(rotated, sequence, beta1=beta1, eps=eps), expected) > 0.1
    keep_to_the_axes(monkeypatch, shuffled=shuffled)
    ours = drive_rotated(rotated, sequence, beta1=beta1, eps=eps)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)
