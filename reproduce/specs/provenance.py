"""Where every value of an experiment comes from, and what a scale changes it to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reproduce.specs.checks import covering
from reproduce.specs.difference import leaves
from reproduce.specs.fields import deviation_fields
from reproduce.specs.load import load_setting
from reproduce.specs.resolve import merge, shown_runs
from reproduce.specs.schema import CheckpointSpec, Experiment, Origin, RunSpec, Scale, Setting, Source


@dataclass(frozen=True)
class Hyperparameter:
    """One value of a setting or a run: at the paper's scale, with its origin, and at the scale asked for."""

    setting: str
    run: str | None
    """The run that deviates by this value; None for a value of the setting."""
    path: str
    value: Any
    """Value at paper scale; None where only the other scale sets it."""
    source: Source | None
    """Origin of the paper's value; None for a value of the project's own, as all values of smaller scales are."""
    note: str
    scale_value: Any
    """Value at the scale asked for; None where only the paper's scale sets it."""


def hyperparameters(experiment: Experiment, scale: Scale) -> list[Hyperparameter]:
    """Every value of the experiment's settings, followed by what each of its runs changes."""
    settings = [load_setting(name) for name in experiment.settings]
    rows = [row for setting in settings for row in _setting_rows(setting, scale)]
    return rows + [row for setting, run, _ in shown_runs(experiment) for row in _of_run(setting, run, scale)]


def _setting_rows(setting: Setting, scale: Scale) -> Iterator[Hyperparameter]:
    own = merge(deviation_fields(setting.base), {"blocks": setting.blocks})
    paper, scaled = (
        merge(own, deviation_fields(setting.scales[at])) if at in setting.scales else own for at in ("paper", scale)
    )
    return _rows(setting.id, None, paper, scaled, setting.sources, (None, ""))


def _of_run(setting: Setting, run: RunSpec | CheckpointSpec, scale: Scale) -> Iterator[Hyperparameter]:
    if isinstance(run, RunSpec):
        yield from _run_rows(setting, run, scale)
        return
    paper, ours = run.steps.get("paper"), run.steps.get(scale)
    yield Hyperparameter(setting.id, run.name, "steps", paper, run.source if paper else None, run.note, ours)


def _run_rows(setting: Setting, run: RunSpec, scale: Scale) -> Iterator[Hyperparameter]:
    paper, scaled = (
        merge(deviation_fields(run), *(deviation_fields(run.at[at]) for at in run.at if at == wanted))
        for wanted in ("paper", scale)
    )
    return _rows(setting.id, run.name, paper, scaled, run.sources, (run.source, run.note))


def _rows(
    setting: str,
    run: str | None,
    paper: Mapping[str, Any],
    scaled: Mapping[str, Any],
    sources: Mapping[str, Origin],
    default: tuple[Source | None, str],
) -> Iterator[Hyperparameter]:
    """A row for each leaf of either tree. Values of the paper get their origin from `sources`, or else the default."""
    theirs, ours = dict(leaves(paper)), dict(leaves(scaled))
    for path in dict.fromkeys([*theirs, *ours]):
        source, note = _origin(path, sources, default) if path in theirs else (None, "")
        yield Hyperparameter(setting, run, path, theirs.get(path), source, note, ours.get(path))


def _origin(path: str, sources: Mapping[str, Origin], default: tuple[Source | None, str]) -> tuple[Source | None, str]:
    entry = covering(path, sources)
    said = default if entry is None else sources[entry]
    return said if isinstance(said, tuple) else (said, "")
