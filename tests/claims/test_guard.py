"""Every shipped claim can hold and can fail: a search over synthetic traces finds one that satisfies it and one not."""

from __future__ import annotations

import pytest

from reproduce.claims.discrimination import OtherRuns
from reproduce.specs.claims import at_scale, quantities
from reproduce.specs.load import experiments_root, load_experiment
from reproduce.specs.schema import SCALES, Claim

from .synthetic import draws
from .traces import claim, quantity

BATCH, BATCHES = 15, 40
IDS = sorted(path.stem for path in experiments_root().glob("*.yaml"))


def outcomes(claim: Claim, last_step: int, batches: int = BATCHES) -> set[bool]:
    """What became of the claim in traces drawn until it had held and had failed."""
    seen: set[bool] = set()
    for batch in range(batches):
        loaded, names = draws(claim, last_step, range(batch * BATCH, (batch + 1) * BATCH))
        seen |= set(OtherRuns(loaded).judge(claim, names).values())
        if len(seen) == 2:
            break
    return seen


@pytest.mark.parametrize("name", IDS)
def test_a_claim_can_hold_and_can_fail(name: str) -> None:
    for one in load_experiment(name).claims:
        if one.kind == "identity" or any(side.attention for side in quantities(one).values()):
            continue  # it holds for every correct measurement, or no trace decides it
        judged = [scale for scale in one.scales if scale != "smoke"]
        # The paper's bound where it is judged, and the laptop's where that is another one.
        for scale in {max(judged, key=SCALES.index), *({"laptop"} & one.at.keys())}:
            last_step = 80_000 if scale == "paper" else 3_600
            seen = outcomes(at_scale(one, scale), last_step)
            assert True in seen, f"no synthetic trace satisfies {one.id} at {scale}"
            assert False in seen, f"no synthetic trace violates {one.id} at {scale}"


def test_the_search_finds_out_what_cannot_fail_and_what_cannot_hold() -> None:
    quadratic = quantity("m4_update_quadratic", layer=2, over="each")
    assert outcomes(claim(quadratic, "ge", 0), 1000, batches=5) == {True}, "a sum of squares"
    floor = claim(quantity("kurtosis", layer=2, over="peak"), "lt", 0.9)
    assert outcomes(floor, 1000, batches=5) == {False}, "it is at least 1"
