"""For each claim, how many other runs that ship with the code would satisfy it too (`reproduce.claims.discrimination`).

    figures/<scale>/discrimination.json    {figure: {claim: [satisfy, of]}}

`make figures` computes the file from all reference traces of a scale, which takes some seconds. `ofe show` and
REPRODUCING.md read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from reproduce.choices import Scale
from reproduce.job_config import kind_of
from reproduce.specs.claims import at_scale
from reproduce.specs.load import list_experiments
from reproduce.specs.resolve import resolve
from reproduce.specs.runs import Resolved, ResolvedRun
from reproduce.specs.schema import Experiment
from reproduce.store.atomic import write_json
from reproduce.store.json_text import loads
from reproduce.store.layout import damaged
from reproduce.store.reference import reference_root
from reproduce.store.runs import Store

FILE = "discrimination.json"

Shares = dict[str, dict[str, list[int]]]
"""Figure -> claim -> exchanges that satisfy the claim, and all exchanges."""


def shares(scale: Scale, figures: Path, settings: Sequence[str] | None = None) -> Shares:
    """The shares of all claims that the reference traces of one scale decide.

    Args:
        settings: figures of these settings alone; all figures if None.

    Raises:
        OfeError: a spec is not valid, or a reference trace is damaged.
    """
    from reproduce.claims.discrimination import OtherRuns
    from reproduce.store.frame import load

    experiments = [
        one for one in list_experiments() if one.settings and (settings is None or set(one.settings) <= set(settings))
    ]
    if not experiments:
        return {}
    with TemporaryDirectory() as nowhere:
        runs = _all_runs(experiments, scale)
        loaded = load(runs, Store(Path(nowhere)), reference=True, figures=figures)
    # A measurement and a quantisation of one checkpoint both record kurtosis, of which the first figure's counts.
    place = [name for name in loaded.frame.columns if name not in ("label", "setting", "value")]
    others = OtherRuns(replace(loaded, frame=loaded.frame.drop_duplicates(place)))
    found: Shares = {}
    for experiment in experiments:
        for claim in experiment.claims:
            share = others.share(at_scale(claim, scale)) if scale in claim.scales else None
            if share is not None:
                found.setdefault(experiment.id, {})[claim.id] = [share.satisfy, share.of]
    return found


def _all_runs(experiments: Sequence[Experiment], scale: Scale) -> Resolved:
    """The runs of all figures, each once, with the largest number of seeds that any of them asks for."""
    runs: dict[tuple[str, int, int, str], ResolvedRun] = {}
    for experiment in experiments:
        resolved = resolve(experiment, scale, fingerprint=lambda data: "")
        for run in (*resolved.runs, *resolved.extra):
            # A run of several checkpoints is a job for each step. Figures may measure and quantise one from elsewhere.
            kind = kind_of(run.config) if run.training is None else ""
            runs[run.name, run.seed, run.config.last_step, kind] = run
    return Resolved(experiments[0], scale, tuple(runs.values()), ())


def shipped_shares(scale: str, figures: Path | None = None) -> Shares:
    """What `make figures` has written for one scale; empty where no reference traces ship.

    Raises:
        OfeError: the file is damaged.
    """
    path = (figures or reference_root()) / scale / FILE
    try:
        found: Shares = loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise damaged(path, "is not JSON") from error
    return found


def write_shares(scale: Scale, figures: Path) -> None:
    """Write the file of one scale anew."""
    write_json(figures / scale / FILE, shares(scale, figures))


def share_words(share: Sequence[int] | None) -> str:
    """A share as tables show it, `5 of 45`; empty where there is none, or no other run to compare with."""
    return f"{share[0]} of {share[1]}" if share and share[1] else ""
