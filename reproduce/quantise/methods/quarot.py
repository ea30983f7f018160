"""Rotation of activations (QuaRot, Ashkboos et al., NeurIPS 2024, arXiv 2404.00456): outliers are spread over all.

    Y = X W^T = (X Q) (W Q)^T,     Q Q^T = I,     Q = diag(+-1) H / sqrt(k)

H is a Hadamard matrix: entries +-1, orthogonal rows. One exists for every order used here that is a power of two times
1 or times the order of Paley's construction (12, 20, 28, 36, ...); for other widths Q is the orthogonal factor of a
Gaussian matrix.

The authors first fold the gains of norms into the layers that read them, then fold the rotation of the stream into the
weights around it, and rotate the inputs of the output and down projections as they pass. Here gains are folded in this
package's transformers, and the inputs of every layer are rotated as they pass. That quantises the same numbers, works
with any block, and is counted as FLOPs, most of which the authors' way saves.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor


class Multiply:
    """Multiplies activations (..., k) by a matrix (k, k)."""

    def __init__(self, by: Tensor) -> None:
        self.by = by

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.by


@cache
def rotation(width: int, seed: int = 0) -> Tensor:
    """A random rotation Q (k, k) in float64: signs drawn from `seed` times a Hadamard matrix, if there is one."""
    generator = torch.Generator().manual_seed(seed)
    matrix = hadamard(width)
    if matrix is None:
        gaussian = torch.randn(width, width, generator=generator, dtype=torch.float64)
        orthogonal, triangle = torch.linalg.qr(gaussian)
        return orthogonal * triangle.diagonal().sign()
    signs = 2 * torch.randint(0, 2, (width, 1), generator=generator, dtype=torch.float64) - 1
    return signs * torch.from_numpy(matrix) / math.sqrt(width)


def rotation_flops(width: int) -> float:
    """FLOPs that rotate one vector: k log2 of the part that is a power of two, and a small product for the rest."""
    power = width & -width
    odd = width // power
    while odd > 1 and power > 1 and _paley(odd) is None:  # the order of Paley's matrix takes factors of two as well
        odd, power = 2 * odd, power // 2
    if hadamard(width) is None:
        return 2.0 * width**2
    return width * (math.log2(power) + (2 * odd if odd > 1 else 0))


@cache
def hadamard(order: int) -> np.ndarray | None:
    """A Hadamard matrix (order, order) of +-1 in float64, or None where no construction here gives one."""
    if order == 1:
        return np.ones((1, 1))
    paley = _paley(order)
    if paley is not None:
        return paley
    half = hadamard(order // 2) if order % 2 == 0 else None
    return None if half is None else np.kron(np.array([[1.0, 1.0], [1.0, -1.0]]), half)


def _paley(order: int) -> np.ndarray | None:
    """Paley's construction of order q + 1 for primes q = 3 mod 4, or 2 (q + 1) for primes q = 1 mod 4."""
    if order % 4 == 0 and _prime(order - 1):
        q = order - 1
        skew = np.zeros((order, order))
        skew[0, 1:], skew[1:, 0], skew[1:, 1:] = 1, -1, _jacobsthal(q)
        return skew + np.eye(order)
    if order % 4 == 0 and order // 2 % 4 == 2 and _prime(order // 2 - 1) and (order // 2 - 1) % 4 == 1:
        q = order // 2 - 1
        conference = np.zeros((q + 1, q + 1))
        conference[0, 1:], conference[1:, 0], conference[1:, 1:] = 1, 1, _jacobsthal(q)
        diagonal = np.array([[1.0, -1.0], [-1.0, -1.0]])
        return np.kron(conference, np.array([[1.0, 1.0], [1.0, -1.0]])) + np.kron(np.eye(q + 1), diagonal)
    return None


def _prime(number: int) -> bool:
    return number > 2 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


def _jacobsthal(q: int) -> np.ndarray:
    """The matrix (q, q) with 1 where the difference of the indices is a square modulo the prime q, -1 elsewhere."""
    squares = {number * number % q for number in range(1, q)}
    character = np.array([0 if number == 0 else 1 if number in squares else -1 for number in range(q)], dtype=float)
    index = np.arange(q)
    return character[(index[None, :] - index[:, None]) % q]
