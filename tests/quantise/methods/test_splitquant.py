"""SplitQuant: the parts add up, boundaries lie between clusters, and the gain is that of outliers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from reproduce.quantise.methods.splitquant import boundaries, quantised, split
from reproduce.quantise.quantisers import Scheme


def weight(*, outliers: bool) -> Tensor:
    """(64, 64) normal entries of standard deviation 0.02, with three large ones."""
    made = 0.02 * torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    if outliers:
        made[0, 0], made[3, 7], made[40, 20] = 0.5, -0.4, 0.3
    return made


def error(w: Tensor, made: Tensor) -> float:
    return float((w - made).norm() / w.norm())


@pytest.mark.parametrize("outliers", [True, False])
def test_the_parts_add_up_exactly(outliers: bool) -> None:
    w = weight(outliers=outliers)
    parts = split(w)
    assert torch.equal(parts[0] + parts[1] + parts[2], w)
    assert all(((part == 0) | (part == w)).all() for part in parts)


def test_boundaries_are_those_of_k_means() -> None:
    """They are the midpoints between the means of the three parts, where k-means comes to rest."""
    w = weight(outliers=True)
    low, high = boundaries(w)
    means = sorted(float(w[part].mean()) for part in (w <= low, (w > low) & (w < high), w >= high))
    assert [low, high] == pytest.approx([(means[0] + means[1]) / 2, (means[1] + means[2]) / 2], rel=0.02)


def test_clear_clusters_are_found() -> None:
    w = weight(outliers=False)
    w[:8] += 0.5
    w[-8:] -= 0.5
    assert boundaries(w) == pytest.approx([-0.25, 0.25], abs=0.01)


def test_few_values_are_not_split() -> None:
    w = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    assert torch.equal(torch.stack(split(w)).sum(0), w)


def test_the_error_falls_at_every_width_and_most_at_four_bits_with_outliers() -> None:
    """Three outliers cost INT4 per tensor nearly all its levels: an error of 0.70, of which the parts leave half."""
    w = weight(outliers=True)
    plain = [error(w, Scheme(bits, "asymmetric")(w)) for bits in (2, 4, 8)]
    parts = [error(w, quantised(w, Scheme(bits, "asymmetric"))) for bits in (2, 4, 8)]
    assert plain == pytest.approx([0.883, 0.702, 0.045], rel=0.02)
    assert all(ours < theirs for ours, theirs in zip(parts, plain, strict=True))
    assert parts[1] < plain[1] / 2


def test_the_three_scales_of_the_reference_case() -> None:
    """An independent implementation gives 0.589, 0.119 and 0.007 at 2, 4 and 8 bits, on another draw of the weights."""
    drawn = np.random.default_rng(0).normal(0, 0.02, (64, 64))
    drawn.flat[[5, 77, 999]] = 0.5, -0.4, 0.3
    w, at = torch.tensor(drawn, dtype=torch.float32), [-0.2, 0.2]
    means = sorted(float(w[part].mean()) for part in (w <= at[0], (w > at[0]) & (w < at[1]), w >= at[1]))
    midpoints = [(means[0] + means[1]) / 2, (means[1] + means[2]) / 2]
    assert midpoints == pytest.approx(at, abs=1e-3)  # k-means, once there, moves no boundary
    found = [error(w, quantised(w, Scheme(bits, "asymmetric"), at)) for bits in (2, 4, 8)]
    assert found == pytest.approx([0.589, 0.119, 0.007], rel=0.05)


def test_without_outliers_there_is_nothing_to_gain_at_8_bits() -> None:
    w = weight(outliers=False)
    plain, parts = error(w, Scheme(8, "asymmetric")(w)), error(w, quantised(w, Scheme(8, "asymmetric")))
    assert plain < 0.01
    assert parts > plain / 4
