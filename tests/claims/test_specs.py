"""Every claim that ships makes sense at every scale, and traces that have everything give it a verdict."""

from __future__ import annotations

import pytest

from reproduce.claims import evaluate
from reproduce.claims.wording import asked
from reproduce.specs.claims import at_scale, claim_problems, quantities
from reproduce.specs.load import experiments_root, load_experiment
from reproduce.specs.schema import SCALES, Claim, Scale

from .traces import random_traces

IDS = sorted(path.stem for path in experiments_root().glob("*.yaml"))


def _judged_at(claim: Claim) -> Scale:
    """The paper's scale, or the largest at which the claim is judged."""
    return max(claim.scales, key=SCALES.index)


@pytest.mark.parametrize("name", IDS)
def test_every_claim_is_judged(name: str) -> None:
    experiment = load_experiment(name)
    if not experiment.claims:
        return
    frame, facts = random_traces(experiment.claims)
    for claim in experiment.claims:
        assert list(claim_problems(claim)) == []
        assert all(asked(at_scale(claim, scale)) for scale in SCALES)
        found = evaluate(claim, frame, facts, _judged_at(claim), paper_data=True, published=experiment.published)
        unrecorded = any(quantity.attention for quantity in quantities(claim).values())
        assert (found.verdict == "not measured") is unrecorded, f"{claim.id}: {found.reason}"
