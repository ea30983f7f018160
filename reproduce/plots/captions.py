"""The words of a figure: its title, where it stems from, what was trained, and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from reproduce.plots.badges import Badge, bound_notes, chips, data_name
from reproduce.plots.sheet import Words
from reproduce.units import count

if TYPE_CHECKING:
    from reproduce.claims import Verdict
    from reproduce.specs.runs import Resolved, ResolvedRun
    from reproduce.specs.schema import Experiment
    from reproduce.store.frame import Loaded, RunFacts


def words(
    experiment: Experiment,
    verdicts: Sequence[Verdict],
    badges: Sequence[Badge],
    caption: str,
    notes: Iterable[str] = (),
) -> Words:
    """All that stands around the picture of an experiment, whatever its kind.

    The notes end with the reasons for bounds that are not the paper's.
    """
    return Words(
        title=f"{experiment.id} · {experiment.title}",
        subtitle=", ".join(["arXiv 2405.19279", *experiment.paper_names] if experiment.paper_names else []),
        badges=badges,
        caption=caption,
        notes=[*notes, *bound_notes(verdicts)],
        chips=chips(verdicts),
    )


def caption(resolved: Resolved, loaded: Loaded) -> str:
    """One line that tells the scale, the size of the models, the data, the steps and the number of seeds."""
    facts = list(loaded.facts.values())
    data = ", ".join(dict.fromkeys(data_name(run) for run in facts))
    return f"{resolved.scale} scale · {_sizes(resolved)} · data: {data} · {_steps(facts)} · {seeds(loaded)}"


def _sizes(resolved: Resolved) -> str:
    """The parameters of the models, `6.8M parameters` or `0.5M to 6.8M parameters`.

    A figure's title may name the size of the paper's model, which is another one at most scales.
    """
    counts = sorted(run.parameters for run in resolved.runs if run.parameters is not None)
    ends = dict.fromkeys(in_millions(count) for count in (counts[0], counts[-1]))
    return f"{' to '.join(ends)} parameters"


def in_millions(count: int) -> str:
    """A count in millions, with at least two significant digits.

    >>> in_millions(119_400_000), in_millions(6_830_000), in_millions(41_000)
    ('119M', '6.8M', '0.041M')
    """
    millions = count / 1e6
    return f"{millions:.2g}M" if millions < 99.5 else f"{millions:,.0f}M"


def _steps(facts: Iterable[RunFacts]) -> str:
    """The steps of the runs that trained to their end; of all runs where none did."""
    facts = list(facts)
    ends = sorted({run.steps for run in facts if not run.failed} or {run.steps for run in facts})
    return f"{ends[0]:,} steps" if len(ends) == 1 else f"{ends[0]:,} to {ends[-1]:,} steps"


def seed_counts(loaded: Loaded) -> dict[str, int]:
    """How many seeds of each run have a trace."""
    return dict(Counter(run for run, _ in loaded.facts))


def facts_of(run: str, loaded: Loaded) -> list[RunFacts]:
    """The facts of one run, an entry for each of its seeds that has a trace."""
    return [fact for (name, _), fact in loaded.facts.items() if name == run]


def seeds(loaded: Loaded) -> str:
    """The number of seeds, `n = 3 seeds`; the range where runs differ, `n = 1 to 3 seeds`."""
    counts = sorted(set(seed_counts(loaded).values()))
    if len(counts) > 1:
        return f"n = {counts[0]} to {counts[-1]} seeds"
    return f"n = {count(counts[0], 'seed')}"


def run_suffix(runs: Iterable[str], loaded: Loaded) -> str:
    """What a legend adds to the name of `runs`: where they diverged, and their seeds where runs differ in that."""
    counts = seed_counts(loaded)
    varies = len(set(counts.values())) > 1
    parts = []
    for run in runs:
        facts = facts_of(run, loaded)
        if varies and facts:
            parts.append(f"n = {len(facts)}")
        if text := divergence(facts):
            parts.append(text)
    return f" ({', '.join(dict.fromkeys(parts))})" if parts else ""


def divergence(facts: list[RunFacts]) -> str:
    """Where one run diverged, `diverged at step 412` or `2 of 3 seeds diverged, first at step 412`; else empty.

    Args:
        facts: one entry for each seed of the run.
    """
    ends = [fact.failed_step for fact in facts if fact.failed_step is not None]
    if not ends:
        return ""
    if len(facts) == 1:
        return f"diverged at step {ends[0]:,}"
    first = "" if len(ends) == 1 else ", first"
    return f"{len(ends)} of {len(facts)} seeds diverged{first} at step {min(ends):,}"


def missing_notes(missing: Iterable[ResolvedRun]) -> list[str]:
    """A single note that names all runs without a trace and their seeds; empty where every run has one."""
    absent: dict[str, set[int]] = {}
    for run in missing:
        absent.setdefault(run.label, set()).add(run.seed)
    if not absent:
        return []
    named = [f"{label} (seed {', '.join(map(str, sorted(found)))})" for label, found in absent.items()]
    return [f"no trace yet of {', '.join(named)}"]
