"""The words of a figure: its title, where it stems from, what was trained, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from reproduce.models.size import parameters
from reproduce.plots.badges import data_name
from reproduce.units import count

if TYPE_CHECKING:
    from reproduce.specs.resolve import Resolved, ResolvedRun
    from reproduce.specs.schema import Experiment
    from reproduce.store.frame import Loaded, RunFacts


def title(experiment: Experiment) -> str:
    return f"{experiment.id} · {experiment.title}"


def subtitle(experiment: Experiment) -> str:
    """The figure's names in the two versions of the paper."""
    names = [f"{version} {name}" for version, name in (("v1", experiment.v1), ("v2", experiment.v2)) if name]
    return ", ".join(["arXiv 2405.19279", *names])


def caption(resolved: Resolved, loaded: Loaded) -> str:
    """One line: scale, size of the models, data, steps, seeds."""
    facts = list(loaded.facts.values())
    data = ", ".join(dict.fromkeys(data_name(run) for run in facts))
    return f"{resolved.scale} scale · {_sizes(resolved)} · data: {data} · {_steps(facts)} · {seeds(loaded)}"


def _sizes(resolved: Resolved) -> str:
    """`6.8M parameters`, or from the smallest model to the largest: titles give the paper's size."""
    counts = sorted(parameters(run.config) for run in resolved.runs)
    ends = dict.fromkeys(in_millions(count) for count in (counts[0], counts[-1]))
    return f"{' to '.join(ends)} parameters"


def in_millions(count: int) -> str:
    """A count with two digits or more.

    >>> in_millions(119_400_000), in_millions(6_830_000), in_millions(41_000)
    ('119M', '6.8M', '0.041M')
    """
    millions = count / 1e6
    return f"{millions:.2g}M" if millions < 99.5 else f"{millions:,.0f}M"


def _steps(facts: Iterable[RunFacts]) -> str:
    facts = list(facts)
    ends = sorted({run.steps for run in facts if not run.failed} or {run.steps for run in facts})
    return f"{ends[0]:,} steps" if len(ends) == 1 else f"{ends[0]:,} to {ends[-1]:,} steps"


def seed_counts(loaded: Loaded) -> dict[str, int]:
    """How many seeds of each run there are to draw."""
    counts: dict[str, int] = {}
    for run, _ in loaded.facts:
        counts[run] = counts.get(run, 0) + 1
    return counts


def seeds(loaded: Loaded) -> str:
    """`n = 3 seeds`, or the range where runs differ."""
    counts = sorted(set(seed_counts(loaded).values()))
    if len(counts) > 1:
        return f"n = {counts[0]} to {counts[-1]} seeds"
    return f"n = {count(counts[0], 'seed')}"


def run_suffix(runs: Iterable[str], loaded: Loaded) -> str:
    """What a legend adds to the name of `runs`: their seeds where runs differ in that, and where they diverged."""
    counts = seed_counts(loaded)
    varies = len(set(counts.values())) > 1
    parts = []
    for run in runs:
        facts = [fact for (name, _), fact in loaded.facts.items() if name == run]
        if varies and facts:
            parts.append(f"n = {len(facts)}")
        if text := divergence(facts):
            parts.append(text)
    return f" ({', '.join(dict.fromkeys(parts))})" if parts else ""


def divergence(facts: list[RunFacts]) -> str:
    """`diverged at step 412`, for one run's seeds; empty where none did."""
    ends = [fact.failed_step if fact.failed_step is not None else fact.steps for fact in facts if fact.failed]
    if not ends:
        return ""
    if len(facts) == 1:
        return f"diverged at step {ends[0]:,}"
    first = "" if len(ends) == 1 else ", first"
    return f"{len(ends)} of {len(facts)} seeds diverged{first} at step {min(ends):,}"


def missing_notes(missing: Iterable[ResolvedRun]) -> list[str]:
    """One note for all runs without a trace."""
    absent: dict[str, list[int]] = {}
    for run in missing:
        absent.setdefault(run.label, []).append(run.seed)
    if not absent:
        return []
    named = [f"{label} (seed {', '.join(map(str, sorted(found)))})" for label, found in absent.items()]
    return [f"no trace yet of {', '.join(named)}"]
