"""Writes REPRODUCING.md, which says what became of every claim.

    python -m reproduce.report.reproducing_md

The page rests on the specs and the reference traces alone. What has been trained on this machine plays no part, so that
the page is the same for everyone. Nothing here imports torch.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from reproduce.choices import DEFAULT_SCALE, SCALES, Scale
from reproduce.claims import Verdict, judge
from reproduce.report.cost import machines, measured_cost
from reproduce.report.discrimination import share_words, shipped_shares, write_shares
from reproduce.report.verdicts import published, tally
from reproduce.specs.load import list_experiments
from reproduce.specs.resolve import resolve
from reproduce.specs.runs import Resolved, ResolvedRun
from reproduce.specs.schema import Experiment
from reproduce.store.atomic import write_text
from reproduce.store.reference import find_reference, read_index, reference_root
from reproduce.store.runs import RunFolder, Store
from reproduce.units import count

if TYPE_CHECKING:
    from reproduce.store.frame import Loaded

HEADER = """\
# Reproducing the figures

`make figures` writes this page from the specs in `experiments/` and the reference traces in `figures/`. Nothing in it
is written by hand, and a test compares it with what those files say.

- **command** trains what is missing and draws the figure. `ofe plot` draws it from the reference traces alone.
- **cost** is what the reference traces took to train, added up over all runs and seeds of the figure and its claims. A
  core-minute is a minute of one core; each figure's section names the machine. Figures share runs, and each is trained
  once. `ofe plan` estimates the time on your machine.
- **claims** counts the verdicts. *reproduced*: the bound of that scale holds; in brackets stands how many of these rest
  on the first tenth of the steps, or on a bound other than the paper's. *direction only*: the comparison holds without
  its factor or margin, a trend between its ends, a rank correlation in its sign. *not reproduced*: neither does. *not
  measured*: there is no trace, or the claim cannot be judged at that scale.
  *Identities* hold by algebra for every correct measurement. They test the metrics and are counted apart.
- **asked** is the bound of that scale. Where it is not the paper's, the reason stands in brackets.
- **measured** reads each seed by itself and averages the values; beside them stand how many seeds hold the claim
  alone, and what becomes of a claim on peaks without the first tenth of the steps where that is another verdict.
- **other runs** says how many runs that the claim does not speak of would satisfy it too. Each other run of the same
  setting takes the place of one run of the claim at a time, and the claim is judged again: *5 of 45* exchanges satisfy
  it. A claim that nearly all of them satisfy says little of the run it names.
- **substitutions** names what stands in for the paper's data.
"""

TABLE = """\
| figure | paper | command | scale | cost | claims | substitutions |
|---|---|---|---|---|---|---|
"""

CLAIMS = """\
| claim | says | asked | measured | verdict | other runs | paper |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Entry:
    """One figure or table at one scale, judged by its reference traces."""

    resolved: Resolved
    loaded: Loaded
    verdicts: list[Verdict]

    @property
    def experiment(self) -> Experiment:
        return self.resolved.experiment

    @property
    def scale(self) -> str:
        return self.resolved.scale


def page(figures: Path | None = None) -> str:
    """The text of the page.

    Args:
        figures: the folder of the reference traces; by default that of this clone.

    Raises:
        OfeError: a spec is not valid, or a reference trace is damaged.
    """
    figures = figures or reference_root()
    entries = list(survey(figures))
    parts = [HEADER, TABLE + "".join(_row(entry) for entry in entries)]
    seen: set[str] = set()
    for entry in entries:
        if entry.experiment.id not in seen:
            seen.add(entry.experiment.id)
            names = ", ".join(entry.experiment.paper_names) or "a figure of this project's own"
            parts.append(f"## {entry.experiment.id}\n\n{entry.experiment.title} ({names}).\n")
            parts += [f"{_prose(entry.experiment.notes)}\n"] if entry.experiment.notes else []
        parts += _details(entry, figures)
    return "\n".join(parts)


def survey(figures: Path) -> Iterator[Entry]:
    """Every experiment at each scale where it is shown; at the default scale where it is shown at none."""
    from reproduce.store.frame import load

    def trace_of(run: ResolvedRun) -> RunFolder | None:
        return find_reference(run.recipe, run.scale, figures)

    shipped = [scale for scale in SCALES if read_index(scale, figures)]
    with TemporaryDirectory() as nowhere:
        store = Store(Path(nowhere))
        for experiment in list_experiments():
            resolutions = {scale: _resolve(experiment, scale) for scale in (*shipped, DEFAULT_SCALE)}
            shown = [scale for scale in shipped if resolutions[scale].is_shown(trace_of)]
            for scale in shown or [DEFAULT_SCALE]:
                loaded = load(resolutions[scale], store, reference=True, figures=figures)
                yield Entry(resolutions[scale], loaded, judge(experiment, loaded, scale))


def _resolve(experiment: Experiment, scale: Scale) -> Resolved:
    """The runs of an experiment, with no fingerprint of their data: reference traces are found without it."""
    return resolve(experiment, scale, fingerprint=lambda data: "")


# ---------------------------------------------------------------------------------------------------
# The table of figures


def _row(entry: Entry) -> str:
    """The row of a figure in the table at the top."""
    experiment = entry.experiment
    trained = bool(entry.resolved.runs)
    command = f"`ofe reproduce {experiment.id}{f' --scale {entry.scale}' if trained else ''}`"
    return _cells(
        f"[{experiment.id}](#{experiment.id})",
        ", ".join(experiment.paper_names),
        command,
        entry.scale if trained else "",
        _cost(entry),
        tally([verdict.to_json() for verdict in entry.verdicts]),
        ", ".join(_substitutes(entry)),
    )


def _cost(entry: Entry) -> str:
    """How many runs the figure has and what they took, `15 runs, 62 core-minutes`; no cost where a trace is missing."""
    runs = len(entry.resolved.runs) + len(entry.resolved.extra)
    if not runs:
        return "no training"
    counted = count(runs, "run")
    if entry.loaded.missing:
        return f"{counted}, {runs - len(entry.loaded.missing)} traced"
    return f"{counted}, {measured_cost(fact.whole_cost for fact in entry.loaded.facts.values())}"


def _substitutes(entry: Entry) -> list[str]:
    """The models and the sources of data of the figure's runs that stand in for the paper's."""
    runs = (*entry.resolved.runs, *entry.resolved.extra)
    models = [f"{run.label} for {run.stands_for}" for run in runs if run.stands_for]
    return list(dict.fromkeys([*models, *(run.data.source for run in runs if not run.paper_data)]))


# ---------------------------------------------------------------------------------------------------
# The claims of one figure


def _details(entry: Entry, figures: Path) -> Iterator[str]:
    """The parts of a figure's section at one scale: traces, picture, claims, and what was found."""
    experiment = entry.experiment
    if entry.resolved.runs:
        yield f"At {entry.scale} scale: {_traces(entry)}.\n"
    image = figures / entry.scale / f"{experiment.id}.png"
    if image.is_file():
        yield f"![{experiment.title}](figures/{entry.scale}/{image.name})\n"
    if entry.verdicts:
        shares = shipped_shares(entry.scale, figures).get(experiment.id, {})
        yield CLAIMS + "".join(_claim_row(verdict, shares.get(verdict.claim)) for verdict in entry.verdicts)
    if entry.loaded.facts:
        yield from (f"{_prose(text)}\n" for scale, text in experiment.findings.items() if scale == entry.scale)


def _traces(entry: Entry) -> str:
    """Which runs have reference traces, where they were made, and which of them diverged."""
    facts = entry.loaded.facts
    if not facts:
        return "no reference trace"
    seeds = Counter(run for run, _ in facts)
    runs = ", ".join(f"{run} ({count(number, 'seed')})" for run, number in seeds.items())
    failed = [f"{run} seed {seed} at step {fact.failed_step}" for (run, seed), fact in facts.items() if fact.failed]
    where = machines(fact.provenance for fact in facts.values())
    made = f", made on {where}" if where else ""
    return f"reference traces of {runs}{made}" + (f"; diverged: {', '.join(failed)}" if failed else "")


def _claim_row(verdict: Verdict, share: list[int] | None) -> str:
    paper, others = published(verdict.published), "identity" if verdict.kind == "identity" else share_words(share)
    return _cells(verdict.claim, verdict.says, verdict.bound, verdict.shown, verdict.verdict, others, paper)


def _prose(text: str) -> str:
    """Words of a spec as Markdown that shows them unchanged."""
    return re.sub(r"([*_<|])", r"\\\1", text.strip())


def _cells(*texts: str) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |\n"


def main() -> None:
    """Write the page of this clone and what it reads beside traces; end with an error where there is no clone."""
    clone = reference_root().parent
    if not (clone / "pyproject.toml").is_file():
        sys.exit("error: REPRODUCING.md belongs to a clone of the repository, and this is an installed package")
    for scale in SCALES:
        if read_index(scale, reference_root()):
            write_shares(scale, reference_root())
    write_text(clone / "REPRODUCING.md", page())


if __name__ == "__main__":
    main()
