"""How many other runs would satisfy a claim too: a claim that any run satisfies says little of the run it names.

The *other runs* of a claim are those of the same setting and scale that the claim does not name. One of them takes the
place of one run of the claim's left side, and the claim is judged again:

    a < b            whether x < b, for each other run x
    a < 5            whether x < 5
    a ends high      whether x ends high: where a stands on both sides, x takes its place on both
    max(a, b) < c    whether max(x, b) < c, and whether max(a, x) < c
    a > b > c        whether x > b > c, a > x > c and a > b > x, for a trend or a rank correlation over runs alike
    a < b, c < d     whether x < b and c < d, and whether a < b and x < d

Each such exchange counts once. A claim of n other runs and k runs on its left side has n k of them, fewer where a run
has no such metric or diverged. Nothing is trained or loaded for this: the traces at hand are read once, and all
exchanges of a claim are judged together, as cases of one table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from reproduce.claims.compare import Sides, deciders, named_as_left, numbers_on_the_right, with_margins
from reproduce.claims.quantity import CASE, OF_TWO, join, of_each_run, read, reduce_dim, trajectories
from reproduce.claims.ruling import NotMeasured
from reproduce.metrics.table import recorded_names
from reproduce.specs.claims import PAIR, metrics_of, reads_fact, runs_of
from reproduce.specs.schema import Claim, Quantity

if TYPE_CHECKING:
    from reproduce.store.frame import Loaded


@dataclass(frozen=True)
class Share:
    """Of the exchanges of a run of a claim for another run, how many satisfy the claim."""

    satisfy: int
    of: int


Exchange = Mapping[str, str]
"""Runs of a claim, each with the run that takes its place. An empty one leaves the claim as it is."""


class OtherRuns:
    """The traces of all runs of one scale, from which every claim takes its other runs.

    What a quantity reads of the runs of a setting is kept, since many claims read the same of different runs.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._facts = loaded.facts
        self._frame = loaded.frame
        self._by_metric = dict(list(loaded.frame.groupby("metric", sort=False)))
        self._settings = {run: fact.setting for (run, _), fact in loaded.facts.items()}
        self._trajectories: dict[str, pd.DataFrame] = {}
        self._tables: dict[str, pd.DataFrame] = {}

    def share(self, claim: Claim) -> Share | None:
        """How many exchanges satisfy `claim`, which is taken as it is in force at the scale of the traces.

        It is None for an identity, which holds for all runs, and where the traces do not decide the claim itself.
        """
        named = runs_of(claim)
        if claim.kind == "identity" or any(run not in self._settings for run in named):
            return None
        exchanges: list[Exchange] = [{}]
        for run in claim.left.run_names:
            others = (other for other, setting in self._settings.items() if setting == self._settings[run])
            exchanges += [{run: other} for other in others if other not in named]
        held = self.judge(claim, exchanges)
        if 0 not in held:
            return None
        return Share(sum(holds for case, holds in held.items() if case), len(held) - 1)

    def judge(self, claim: Claim, exchanges: Sequence[Exchange]) -> dict[int, bool]:
        """Whether the claim holds, by the place in `exchanges`, for those of them that the traces decide."""
        try:
            left = self._cases(claim, claim.left, exchanges)
            if isinstance(claim.right, Quantity):
                right = self._cases(claim, claim.right, exchanges)
                sides: Sides = left, named_as_left(claim, right) if "run" in left.columns else right
            else:
                sides = left, numbers_on_the_right(claim, self._facts)
        except NotMeasured:
            return {}
        try:
            return _decide(claim, sides)
        except NotMeasured:  # in one of the cases at least
            return _case_by_case(claim, sides)

    def _cases(self, claim: Claim, quantity: Quantity, exchanges: Sequence[Exchange]) -> pd.DataFrame:
        """The table of `quantity` for each of `exchanges`, in the dim `CASE`."""
        pair = PAIR.fullmatch(quantity.metric)
        if pair:
            first, second = (
                self._each_run(claim, quantity.model_copy(update={"metric": name}), exchanges)
                for name in (pair[2], pair[3])
            )
            values = {}
            for case, group in join(first, second).groupby(CASE, sort=False):
                try:
                    values[case] = OF_TWO[pair[1]](group["left"], group["right"])
                except NotMeasured:
                    continue
            return pd.DataFrame({CASE: list(values), "value": list(values.values())})
        table = self._each_run(claim, quantity, exchanges)
        if len(quantity.run_names) == 1:
            return table.drop(columns="run")
        return table if quantity.reduce_runs is None else reduce_dim(table, "run", quantity.reduce_runs)

    def _each_run(self, claim: Claim, quantity: Quantity, exchanges: Sequence[Exchange]) -> pd.DataFrame:
        """The values of each run of `quantity` by itself, with the runs exchanged and under the names of its own."""
        if quantity.minus_run is not None:
            base = {"run": quantity.minus_run, "runs": None, "minus_run": None}
            ours = self._each_run(claim, quantity.model_copy(update={"minus_run": None}), exchanges)
            theirs = self._each_run(claim, quantity.model_copy(update=base), exchanges).drop(columns="run")
            pairs = join(ours, theirs)
            return pairs.assign(value=pairs["left"] - pairs["right"]).drop(columns=["left", "right"])
        table = self._of_all_runs(claim, quantity)
        there = set(table["run"])
        rows = []
        for case, exchange in enumerate(exchanges):
            sources = {name: exchange.get(name, name) for name in quantity.run_names}
            if there.issuperset(sources.values()):
                rows += [(case, name, source) for name, source in sources.items()]
        wanted = pd.DataFrame(rows, columns=[CASE, "run", "source"])
        return wanted.merge(table.rename(columns={"run": "source"}), on="source").drop(columns="source")

    def _of_all_runs(self, claim: Claim, quantity: Quantity) -> pd.DataFrame:
        """The values of `quantity` of every run whose trace has them, among the settings that the claim names."""
        settings = {self._settings[run] for run in runs_of(claim)}
        runs = [run for run, setting in self._settings.items() if setting in settings]
        asked = quantity.model_copy(update={"run": None, "runs": runs, "reduce_runs": None})
        key = f"{claim.form} {asked.model_dump_json()}"
        if key not in self._tables:
            if reads_fact(asked):
                self._tables[key] = read(asked, self._frame, self._facts)
            else:
                curves = self._curves(asked, variance=claim.form == "variance")
                self._tables[key] = of_each_run(asked, curves[curves["run"].isin(runs)], self._facts)
        return self._tables[key]

    def _curves(self, quantity: Quantity, *, variance: bool) -> pd.DataFrame:
        """The trajectories of `quantity` of all runs that have them, whatever their setting."""
        # A run that failed has its initial value all the same, and none later.
        over = "init" if quantity.over == "init" else None
        how = {"layer": None, "blocks": False, "over": over, "after": 0.0, "until": 1.0, "runs": list(self._settings)}
        asked = quantity.model_copy(update=how)
        key = f"{variance} {asked.model_dump_json()}"
        if key not in self._trajectories:
            recorded = {name for metric in metrics_of(asked) for name in recorded_names(metric)}
            parts = [self._by_metric[name] for name in sorted(recorded) if name in self._by_metric]
            frame = pd.concat(parts) if parts else self._frame.head(0)
            traced = frame.groupby("run", sort=False)["metric"].nunique()
            runs = [str(run) for run, number in traced.items() if number == len(recorded)]
            if asked.nan is None and over is None:
                finished = {run for (run, _), fact in self._facts.items() if not fact.failed}
                runs = [run for run in runs if run in finished]
            if not runs:
                raise NotMeasured(f"no run has {quantity.metric}")
            asked = asked.model_copy(update={"runs": runs})
            self._trajectories[key] = trajectories(asked, frame, self._facts, variance=variance)
        return self._trajectories[key]


def _decide(claim: Claim, sides: Sides) -> dict[int, bool]:
    """Whether the claim holds, by case."""
    rows = deciders(claim, with_margins(claim, *sides))
    return {int(case): bool(enough) for case, enough in zip(rows[CASE], rows["enough"], strict=True)}


def _case_by_case(claim: Claim, sides: Sides) -> dict[int, bool]:
    """The same for the cases that can be decided, where one that cannot would hide the others."""
    held: dict[int, bool] = {}
    for case in sides[0][CASE].unique():
        left, right = (None if side is None else _of_case(side, case) for side in sides)
        assert left is not None, "every claim has a left side"
        with suppress(NotMeasured):
            held |= _decide(claim, (left, right))
    return held


def _of_case(table: pd.DataFrame, case: int) -> pd.DataFrame:
    return table[table[CASE] == case] if CASE in table.columns else table
