"""Chance behind the p of several seeds; what it says of a claim is tested with the verdicts."""

from __future__ import annotations

from itertools import combinations, permutations

import pytest

from reproduce.claims.robustness import _orders


@pytest.mark.parametrize("runs", range(1, 7))
@pytest.mark.parametrize("most", range(4))
def test_orders_with_few_inversions_are_counted(runs: int, most: int) -> None:
    counted = [sum(a > b for a, b in combinations(order, 2)) for order in permutations(range(runs))]
    assert _orders(runs, most) == sum(inversions <= most for inversions in counted)
