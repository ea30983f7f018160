"""The metrics written out: explicit loops, Python floats, full N x N matrices. Slow, and nothing to get wrong."""

from __future__ import annotations

import math

from torch import Tensor

Matrix = list[list[float]]


def rows(x: Tensor) -> Matrix:
    return x.double().reshape(-1, x.shape[-1]).tolist()


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def moments(x: Matrix) -> list[float]:
    return [mean([row[j] ** 2 for row in x]) for j in range(len(x[0]))]


def kurtosis(x: Matrix) -> float:
    s = moments(x)
    return mean([v**2 for v in s]) / mean(s) ** 2


def centred(x: Matrix) -> Matrix:
    return [[v - mean(row) for v in row] for row in x]


def ratios(x: Matrix) -> list[float]:
    result = []
    for row in x:
        magnitudes = sorted(abs(v) for v in row)
        result.append(magnitudes[-1] / magnitudes[(len(row) - 1) // 2])
    return result


def at_unit_rms(x: Matrix) -> Matrix:
    rms = math.sqrt(mean(moments(x)))
    return [[v / rms for v in row] for row in x]


def transposed(x: Matrix) -> Matrix:
    return [list(column) for column in zip(*x, strict=True)]


def gram(x: Matrix) -> Matrix:
    """X X^T."""
    return [[math.fsum(u * v for u, v in zip(a, b, strict=True)) for b in x] for a in x]


def off_diagonal(matrix: Matrix) -> list[float]:
    return [v for i, row in enumerate(matrix) for j, v in enumerate(row) if i != j]


def input_correlations(x: Matrix) -> list[float]:
    return [v / len(x[0]) for v in off_diagonal(gram(at_unit_rms(x)))]


def rms(values: list[float]) -> float:
    return math.sqrt(mean([v**2 for v in values]))


def stream(x: Tensor) -> dict[str, float]:
    """Every metric of `measure_stream`, for a stream without zeros and with at least two inputs and neurons."""
    m = rows(x)
    r = ratios(m)
    return {
        "kurtosis": kurtosis(m),
        "kurtosis_centred": kurtosis(centred(m)),
        "mmr_mean": mean(r),
        "mmr_median": sorted(r)[(len(r) - 1) // 2],
        "mmr_max": max(r),
        "mmr_infinite": 0.0,
        "input_correlation_mean": mean(input_correlations(m)),
        "input_correlation_rms": rms(input_correlations(m)),
        "feature_correlation_rms": rms(off_diagonal(gram(transposed(at_unit_rms(m))))) / len(m),
        "activation_rms": math.sqrt(mean(moments(m))),
        "eq5_residual": 0.0,
    }


def entropy(p: Tensor) -> float:
    """Mean over all rows of the last axis."""
    return mean([-math.fsum(v * math.log(v) for v in row if v > 0) for row in rows(p)])
