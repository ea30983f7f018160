"""From run folders to the one table that plots and claims read.

    run      run's name                 str        step     optimiser steps taken     int
    label    how legends call it        str        split    train, eval or probe      str
    setting  family of trainings        str        metric   name of the quantity      str
    seed                                int        layer    "1".."L", "unembed", ""   str
                                                   value                              float64

What is true of a run as a whole, such as whether it failed, stands beside the table in `RunFacts`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reproduce.metrics.table import metric_named, terms
from reproduce.store.reference import find_reference
from reproduce.store.runs import RunFolder, Store

if TYPE_CHECKING:
    from reproduce.specs.resolve import Resolved, ResolvedRun

COLUMNS = {
    "run": "str",
    "label": "str",
    "setting": "str",
    "seed": "int64",
    "step": "int64",
    "split": "str",
    "metric": "str",
    "layer": "str",
    "value": "float64",
}

_POINT = ["run", "label", "setting", "seed", "step", "layer"]


@dataclass(frozen=True)
class RunFacts:
    """What is true of one trained run as a whole."""

    run: str
    label: str
    setting: str
    seed: int
    layers: int
    failed: bool
    """Whether training diverged (`reproduce.training.divergence`)."""
    failed_step: int | None
    """Number of the update whose loss failed. Traces of version 0.1 may hold the weights after it, one step later."""
    steps: int
    """Steps that were trained: up to the failure, or to the last of the trace."""
    source: str
    """Name of the data source."""
    substitute: bool
    """Whether that source stands in for the paper's data."""
    reference: bool
    """Whether the trace was shipped with the code instead of trained here."""
    key: str
    """Key of the trace: for a reference, that of the run which was shipped."""
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Loaded:
    """All that is known of the runs of one experiment at one scale."""

    frame: pd.DataFrame
    facts: dict[tuple[str, int], RunFacts]
    """By (run, seed)."""
    missing: list[ResolvedRun]
    """Runs that have no sealed trace."""


def load(resolved: Resolved, store: Store, *, reference: bool, figures: Path | None = None) -> Loaded:
    """Read the sealed traces of all runs of `resolved`, those that only its claims need included.

    Args:
        reference: also take traces shipped in `figures` (by default this clone's), for what the store lacks.

    Raises:
        OfeError: a trace is damaged.
    """
    parts: list[pd.DataFrame] = []
    facts: dict[tuple[str, int], RunFacts] = {}
    missing: list[ResolvedRun] = []
    for run in (*resolved.runs, *resolved.extra):
        own = store.folder(run)
        shipped = find_reference(run.recipe, run.scale, figures) if reference and not own.sealed else None
        if not own.sealed and shipped is None:
            missing.append(run)
            continue
        if shipped is None:
            own.check_key()
        trace = (shipped or own).read_trace()
        parts.append(trace.assign(run=run.name, label=run.label, setting=run.setting, seed=run.seed))
        own_facts = _facts(run, shipped or own, trace, reference=shipped is not None)
        earlier = facts.get((run.name, run.seed))  # measurements of one run at several of its steps
        facts[run.name, run.seed] = own_facts if earlier is None else _together(earlier, own_facts)
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))
    return Loaded(frame[list(COLUMNS)].astype(COLUMNS), facts, missing)


def _together(earlier: RunFacts, later: RunFacts) -> RunFacts:
    """The facts of one run that several jobs have measured, each at another of its steps."""
    return replace(later, steps=max(earlier.steps, later.steps), reference=earlier.reference or later.reference)


def _facts(run: ResolvedRun, folder: RunFolder, trace: pd.DataFrame, *, reference: bool) -> RunFacts:
    provenance = folder.provenance()
    return RunFacts(
        run=run.name,
        label=run.label,
        setting=run.setting,
        seed=run.seed,
        layers=run.training.model.layers,
        failed=provenance["failed"],
        failed_step=provenance["failed_step"],
        steps=provenance["failed_step"] if provenance["failed"] else int(trace["step"].max()),
        source=run.training.data.source,
        substitute=provenance["substitute"],
        reference=reference,
        key=folder.key,
        provenance=provenance,
    )


def metric_rows(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows of the metric that specs and claims call `name`, in the frame's order.

    Args:
        name: a metric of `reproduce.metrics.table`, or a sum or difference `a + b - c` of metrics, which is taken at
            the steps and layers that all of its terms have.

    Returns:
        Columns run, label, setting, seed, step, layer, value; no rows where the metric was not recorded.

    Raises:
        ValueError: the table has no such metric, or it is a fact of a run that no trace records.
    """
    (_, first), *rest = terms(name)
    rows = _one_metric(frame, first)
    for sign, term in rest:
        pairs = rows.merge(_one_metric(frame, term), on=_POINT, suffixes=("", "_right"))
        right = pairs.pop("value_right")
        pairs["value"] = pairs["value"] + right if sign == "+" else pairs["value"] - right
        rows = pairs
    return rows


def _one_metric(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    metric = metric_named(name)
    if metric.exp_of is not None:
        rows = _one_metric(frame, metric.exp_of)
        with np.errstate(over="ignore"):  # a diverged run's perplexity is inf
            return rows.assign(value=np.exp(rows["value"]))
    if metric.place is None:
        raise ValueError(f"{name} is a fact of a run, which no trace records")
    split, recorded_as = metric.place
    of_metric = (frame["split"] == split) & (frame["metric"] == recorded_as)
    return frame.loc[of_metric, [*_POINT, "value"]].reset_index(drop=True)
