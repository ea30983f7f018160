"""Rotations: Hadamard matrices of every order used, kept functions, and outliers that are gone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reproduce.metrics.kurtosis import kurtosis
from reproduce.quantise.methods.quarot import hadamard, rotation, rotation_flops
from reproduce.quantise.quantisers import Scheme
from tests.quantise.layers import outlier_layer, relative_error

X, W = outlier_layer()


@pytest.mark.parametrize("order", [1, 2, 4, 8, 12, 20, 24, 28, 36, 60, 64, 72, 108, 140, 256, 576, 768, 1536, 3072])
def test_hadamard_matrices(order: int) -> None:
    matrix = hadamard(order)
    assert matrix is not None
    assert set(np.unique(matrix)) <= {-1.0, 1.0}
    assert np.array_equal(matrix @ matrix.T, order * np.eye(order))


def test_orders_without_a_construction() -> None:
    assert [hadamard(order) for order in (3, 6, 10, 18, 92)] == [None] * 5


@pytest.mark.parametrize("width", [64, 48, 50])
def test_rotations_are_orthogonal(width: int) -> None:
    q = rotation(width)
    torch.testing.assert_close(q @ q.T, torch.eye(width, dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.equal(q, rotation(width))
    assert not torch.equal(q, rotation(width, seed=1))


def test_the_function_is_kept_and_the_outliers_are_gone() -> None:
    q = rotation(64).float()
    torch.testing.assert_close((X @ q) @ (W @ q).T, X @ W.T, rtol=1e-4, atol=1e-4)
    assert float(kurtosis(X)) > 20
    assert float(kurtosis(X @ q)) == pytest.approx(1, abs=0.1)


def test_int8_per_tensor_loses_less() -> None:
    q, int8 = rotation(64).float(), Scheme(8)
    naive = relative_error(X, W, lambda x: int8(x) @ int8(W).T)
    rotated = relative_error(X, W, lambda x: int8(x @ q) @ int8(W @ q).T)
    assert rotated < naive / 2


def test_flops() -> None:
    """k log2 k for a power of two; 64 transforms of 12 for 768; a whole matrix where there is no construction."""
    assert rotation_flops(256) == 256 * 8
    assert rotation_flops(768) == 768 * (6 + 24)
    assert rotation_flops(50) == 2 * 50**2
