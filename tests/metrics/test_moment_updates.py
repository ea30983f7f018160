import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from reproduce.metrics.moment_updates import moment_updates

from . import naive
from .streams import gaussian, quick, seeds, uneven

NAMES = [
    "m2_update_linear",
    "m2_update_quadratic",
    "m4_update_linear",
    "m4_update_quadratic",
    "m4_update_cubic",
    "m4_update_quartic",
]


def moments(x: Tensor) -> tuple[float, float]:
    s = naive.moments(naive.rows(x))
    return naive.mean(s), naive.mean([v**2 for v in s])


def step(n: int, d: int, size: float, seed: int) -> tuple[Tensor, Tensor]:
    x = uneven(n, d, seed)
    return x, x + size * uneven(n, d, seed + 10)


steps = st.builds(step, st.integers(1, 8), st.integers(1, 8), st.sampled_from([1e-3, 1.0, 1e3]), seeds)


@quick
@given(steps)
def test_the_orders_add_up_to_the_change_of_the_moments(pair):
    before, after = moments(pair[0]), moments(pair[1])
    update = moment_updates(*pair)
    assert list(update) == NAMES
    for order, moment in ((0, "m2"), (1, "m4")):
        terms = [value.item() for name, value in update.items() if name.startswith(moment)]
        rounding = 1e-13 * (before[order] + after[order] + sum(map(abs, terms)))
        assert math.fsum(terms) == pytest.approx(after[order] - before[order], abs=rounding)


@quick
@given(steps)
def test_each_order_is_the_papers_sum(pair):
    """u_{4,l} / (n^2 d) and u_{2,l} / (nd), summed over pairs of inputs (a, b) and neurons."""
    x, delta = naive.rows(pair[0]), naive.rows(pair[1] - pair[0])
    n, d = len(x), len(x[0])
    sums = dict.fromkeys(NAMES, 0.0)
    for j in range(d):
        for a in range(n):
            sums["m2_update_linear"] += 2 * x[a][j] * delta[a][j] / (n * d)
            sums["m2_update_quadratic"] += delta[a][j] ** 2 / (n * d)
        for a, b in itertools.product(range(n), repeat=2):
            (xa, da), (xb, db) = (x[a][j], delta[a][j]), (x[b][j], delta[b][j])
            sums["m4_update_linear"] += 4 * da * xa * xb**2 / (n**2 * d)
            sums["m4_update_quadratic"] += (2 * da**2 * xb**2 + 4 * da * xa * db * xb) / (n**2 * d)
            sums["m4_update_cubic"] += 4 * da * xa * db**2 / (n**2 * d)
            sums["m4_update_quartic"] += da**2 * db**2 / (n**2 * d)
    updates = moment_updates(*pair)
    assert set(updates) == set(NAMES)
    for name, value in updates.items():
        assert value.item() == pytest.approx(sums[name], rel=1e-7), name


@quick
@given(steps)
def test_even_orders_of_the_change_never_lower_a_moment(pair):
    update = moment_updates(*pair)
    assert all(update[name] >= 0 for name in ("m2_update_quadratic", "m4_update_quadratic", "m4_update_quartic"))


def test_terms_have_the_order_of_their_name():
    x, delta = uneven(6, 5), uneven(6, 5, seed=9)
    one, two = moment_updates(x, x + delta), moment_updates(x, x + 2 * delta)
    orders = {"linear": 1, "quadratic": 2, "cubic": 3, "quartic": 4}
    for name in NAMES:
        assert (two[name] / one[name]).item() == pytest.approx(2 ** orders[name.split("_")[-1]], rel=1e-12)


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_updates_add_up_over_a_training(dtype, rel):
    x = uneven(50, 8)
    trajectory = [x + step * 0.02 * gaussian(50, 8, seed=step) for step in range(40)]
    trajectory = [x.to(dtype) for x in trajectory]
    updates = [moment_updates(x, x_next) for x, x_next in itertools.pairwise(trajectory)]
    total = {name: math.fsum(update[name].item() for update in updates) for name in NAMES}
    first, last = moments(trajectory[0]), moments(trajectory[-1])
    assert first[0] + total["m2_update_linear"] + total["m2_update_quadratic"] == pytest.approx(last[0], rel=rel)
    assert first[1] + sum(total[name] for name in NAMES[2:]) == pytest.approx(last[1], rel=rel)


def test_no_change():
    x = uneven(6, 5)
    assert all(value == 0 for value in moment_updates(x, x).values())


def test_leading_axes_are_inputs_and_precision_is_the_inputs():
    x, x_next = uneven(6, 5).float(), uneven(6, 5, seed=9).float()
    flat, folded = moment_updates(x, x_next), moment_updates(x.reshape(2, 3, 5), x_next.reshape(2, 3, 5))
    assert flat == folded
    assert {value.dtype for value in flat.values()} == {torch.float32}
    assert {value.shape for value in flat.values()} == {torch.Size([])}


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_nan_if_a_step_diverges(value):
    x = torch.ones(3, 2)
    diverged = x.clone()
    diverged[0, 0] = value
    assert all(term.isnan() for term in moment_updates(x, diverged).values())


def test_no_part_in_autograd():
    x = torch.randn(3, 2, requires_grad=True)
    assert not any(term.requires_grad for term in moment_updates(x, x + 1).values())
