"""Which runs have to be done for those that figures read: a run's parent comes first and keeps what it starts from.

A measurement starts from weights that its training has kept. A training that was sealed without them has to be done
once more, although nobody needs its trace again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reproduce.job_config import kind_of
from reproduce.plan.history import TO_TRAIN, History, RunState
from reproduce.specs.runs import ResolvedRun


@dataclass(frozen=True)
class Required:
    """A run that figures read, or that another run of the plan starts from."""

    run: ResolvedRun
    figures: tuple[str, ...]
    """The figures that read it, or that read what starts from it."""
    state: RunState
    keep: frozenset[int]
    """The steps whose weights it is to keep."""


def with_parents(
    uses: Sequence[tuple[ResolvedRun, str]], history: History, *, keep_weights: bool
) -> Sequence[Required]:
    """Each run once, in the order of its first use, and before it the run that it starts from, if that has to be done.

    Args:
        uses: a run and the figure that reads it.
        keep_weights: whether every training is to keep its final weights.
    """
    runs: dict[str, ResolvedRun] = {}
    figures: dict[str, dict[str, None]] = {}
    keep: dict[str, set[int]] = {}
    reasons: dict[str, str] = {}
    for run, figure in uses:
        parent = run.parent
        if parent is not None and history.state(run).state in TO_TRAIN:
            keep.setdefault(parent.key, set()).add(run.config.last_step)
            if history.state(parent).state == "sealed" and history.lacks_weights(parent, [run.config.last_step]):
                reasons[run.key] = f"{parent.slug} was sealed without its weights: it is trained again first"
            if history.state(parent, keep[parent.key]).state != "sealed":
                runs.setdefault(parent.key, parent)
                figures.setdefault(parent.key, {})[figure] = None
        elif keep_weights and kind_of(run.config) == "train":
            keep.setdefault(run.key, set()).add(run.config.last_step)
        runs.setdefault(run.key, run)
        figures.setdefault(run.key, {})[figure] = None
    required = []
    for key, run in runs.items():
        wanted = frozenset(keep.get(key, ()))
        state = history.state(run, wanted)
        if key in reasons:
            state = replace(state, reason=reasons[key])
        required.append(Required(run, tuple(figures[key]), state, wanted))
    return required
