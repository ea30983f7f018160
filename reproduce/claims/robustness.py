"""How far a verdict can be relied on: what each seed says alone, and what the verdict is without the first steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from reproduce.claims.compare import compare, ruling, sides
from reproduce.claims.quantity import FactsOf, seeds_read
from reproduce.claims.ruling import EARLY, NotMeasured, Ruling
from reproduce.claims.wording import found
from reproduce.specs.claims import ORDERS, TRENDS, open_dims, quantities, reads_fact, runs_of, runs_read
from reproduce.specs.schema import Claim

if TYPE_CHECKING:
    import pandas as pd


def without_early_steps(claim: Claim, verdict: Ruling, frame: pd.DataFrame, facts: FactsOf) -> str:
    """What becomes of a claim about peaks without the first tenth of the steps, or "" where the verdict stays.

    While a model learns how frequent each token is, late layers can collapse to one direction and recover. Whether or
    not a claim holds that such a peak decides, it says little about outlier features.
    """
    later = {
        side: quantity.model_copy(update={"after": EARLY})
        for side, quantity in quantities(claim).items()
        if quantity.over == "peak" and not quantity.after
    }
    if not later:
        return ""
    settled = claim.model_copy(update=later)
    try:
        tables = sides(settled, frame, facts)
        comparison = compare(settled, tables)
    except NotMeasured:
        return ""
    other = ruling(settled, tables, comparison)
    if other == verdict:
        return ""
    return f"{other} without the first {EARLY:.0%} of the steps: {found(settled, comparison)}"


def fewest_seeds(claim: Claim, facts: FactsOf) -> int:
    """The number of seeds of the run that has the fewest among those that enter the claim."""
    read = quantities(claim).values()
    return min(len(seeds_read(run, quantity, facts)) for quantity in read for run in runs_read(quantity))


def seed_by_seed(claim: Claim, frame: pd.DataFrame, facts: FactsOf) -> str:
    """In how many seeds, paired over the runs, the claim holds alone, and how likely as many are by chance."""
    names = runs_of(claim)
    shared = set.intersection(*({seed for name, seed in facts if name == run} for run in names))
    held, left_out = [], []
    for seed in sorted(shared) if len(shared) > 1 else []:
        of_seed = {(run, number): fact for (run, number), fact in facts.items() if number == seed}
        try:
            held.append(compare(claim, sides(claim, frame, of_seed)).holds)
        except NotMeasured as gap:
            if not any(of_seed[run, seed].failed for run in names):
                left_out.append(f"seed {seed} alone cannot say: {gap}")
    n, k = len(held), sum(held)
    if n > 1:
        text = f"{k} of {n} hold it alone"
        chance = _chance(claim)
        if chance is not None:
            tail = sum(math.comb(n, more) * chance**more * (1 - chance) ** (n - more) for more in range(k, n + 1))
            text += f" (p = {tail:.2g})"
    else:
        text = "one paired seed, no test" if n or len(shared) == 1 else "no seed to judge alone"
    failed = [
        f"{run} seed {seed} failed at step {fact.failed_step}"
        for (run, seed), fact in facts.items()
        if run in names and fact.failed
    ]
    return "; ".join([text, *left_out, *failed])


def _chance(claim: Claim) -> float | None:
    """How likely the claim holds if its runs differ by chance alone; None where that is not known.

    It is known for one run above another in the same quantity (a sign test), and for a trend, since all orders of the
    runs are then equally likely. It is not known for facts such as `failed`, which are often equal.
    """
    read = list(quantities(claim).values())
    several = any(open_dims(quantity) not in ([], ["run"]) or quantity.minus_run for quantity in read)
    facts = any(reads_fact(quantity) for quantity in read)
    alike = {quantity.model_copy(update={"run": None, "runs": None}).model_dump_json() for quantity in read}
    if several or facts or len(alike) > 1 or claim.cmp not in (*ORDERS, *TRENDS):
        return None
    runs = [run for quantity in read for run in quantity.run_names]
    if claim.cmp in TRENDS:
        return _orders(len(runs), claim.inversions_allowed) / math.factorial(len(runs))
    plain = (claim.factor, claim.plus, claim.tol, claim.rel_tol) == (1.0, 0.0, 0.0, 0.0)
    return 0.5 if plain and len(read) == 2 and len(runs) == 2 and runs[0] != runs[1] else None


def _orders(runs: int, most: int) -> int:
    """How many of all orders of `runs` runs have at most `most` pairs out of order (sums of Mahonian numbers)."""
    counts = [1]
    for size in range(2, runs + 1):  # the run put in last can be out of order with none to all of the others
        counts = [sum(counts[max(0, k - size + 1) : k + 1]) for k in range(len(counts) + size - 1)]
    return sum(counts[: most + 1])
