"""Which other runs would satisfy a claim too, on runs small enough to count them by eye."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reproduce.claims.compare import compare, sides
from reproduce.claims.discrimination import OtherRuns, Share
from reproduce.claims.ruling import NotMeasured
from reproduce.specs.claims import quantities, runs_of
from reproduce.specs.load import list_experiments
from reproduce.store.frame import Loaded

from .synthetic import draws
from .traces import Traces, claim, quantity

PEAKS = {"a": 2.0, "b": 5.0, "c": 3.0, "d": 7.0, "e": 1.5}


@pytest.fixture
def runs() -> Loaded:
    """Five runs of one setting that rise to their peaks, f of another one, and g, which failed."""
    made = Traces()
    for run, peak in PEAKS.items():
        made.add(run, "kurtosis", {"2": [1.0, peak]})
    made.add("f", "kurtosis", {"2": [1.0, 1.1]}).add("g", "kurtosis", {"2": [1.0, 1.2]}, failed_step=10)
    facts = made.facts | {("f", 0): replace(made.facts["f", 0], setting="other")}
    return Loaded(made.frame, facts, [])


def share(runs: Loaded, left: Any, cmp: str, right: Any = None, **fields: Any) -> Share | None:
    return OtherRuns(runs).share(claim(left, cmp, right, **fields))


def test_each_other_run_of_the_setting_takes_the_place_of_the_left_one(runs: Loaded) -> None:
    peak = quantity(layer=2, over="peak")
    assert share(runs, peak, "lt", 4) == Share(2, 4), "c and e, of b, c, d and e; f is of another setting, g failed"
    assert share(runs, peak, "lt", quantity(run="b", layer=2, over="peak")) == Share(2, 3), "c and e, of c, d and e"


def test_a_run_on_both_sides_is_exchanged_on_both(runs: Loaded) -> None:
    last, peak = quantity(layer=2), quantity(layer=2, over="peak")
    assert share(runs, last, "ge", peak) == Share(4, 4)
    assert share(runs, last, "gt", quantity(layer=2, over="init"), factor=3, form="variance") == Share(4, 4)


def test_runs_of_a_list_are_exchanged_one_by_one(runs: Loaded) -> None:
    highest = quantity(runs=["a", "c"], layer=2, over="peak", reduce_runs="max")
    assert share(runs, highest, "lt", 4) == Share(2, 6), "only e, in either place"
    each = quantity(runs=["a", "c"], layer=2, over="peak")
    assert share(runs, each, "lt", [2.5, 4.0]) == Share(2, 6), "e in either place"
    trend = quantity(runs=["a", "c", "b"], layer=2, over="peak")
    assert share(runs, trend, "increasing") == Share(2, 6), "e before c, and d behind it"


def test_a_difference_keeps_the_run_that_is_subtracted(runs: Loaded) -> None:
    assert share(runs, quantity(layer=2, over="peak", minus_run="c"), "gt", 0) == Share(2, 3), "b and d, of b, d and e"


def test_what_is_not_decided_has_no_share(runs: Loaded) -> None:
    peak = quantity(layer=2, over="peak")
    assert share(runs, peak, "lt", 4, kind="identity") is None
    assert share(runs, quantity(run="z", layer=2), "lt", 4) is None
    assert share(runs, quantity(run="g", layer=2), "lt", 4) is None
    assert share(runs, quantity("mmr_max", layer=2), "lt", 4) is None


@pytest.mark.parametrize("figure", ["fig4", "fig5", "fig15", "fig36", "fig41", "tab2", "tab3", "v2-fig31"])
def test_cases_are_judged_as_the_claim_by_itself(figure: str) -> None:
    """All draws at once, against `compare` on the traces of one draw under the claim's own names."""
    (experiment,) = (one for one in list_experiments() if one.id == figure)
    for one in experiment.claims:
        if any(side.attention for side in quantities(one).values()):
            continue
        loaded, names = draws(one, 3600, range(4))
        alone = {}
        for place, of_draw in enumerate(names):
            own = {name: run for run, name in of_draw.items()}
            frame = loaded.frame[loaded.frame["run"].isin(own)]
            facts = {(run, 0): loaded.facts[of_draw[run], 0] for run in runs_of(one)}
            try:
                alone[place] = compare(one, sides(one, frame.assign(run=frame["run"].map(own)), facts)).holds
            except NotMeasured:
                continue
        assert OtherRuns(loaded).judge(one, names) == alone, one.id
