"""The frame: one table with the traces of all runs of an experiment, which plots and claims read.

    run      name of the run            str        step     optimiser steps taken     int
    label    its name in legends        str        split    train, eval or probe      str
    setting  its family of trainings    str        metric   name of the quantity      str
    seed                                int        layer    "1".."L", "unembed", ""   str
                                                   value                              float64

What is true of a run as a whole, such as whether it failed, is kept beside the table in `RunFacts`.
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
    from reproduce.specs.runs import Resolved, ResolvedRun

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
"""The columns that identify one value of a metric."""


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
    """Number of the update that failed the run. A trace of version 0.1 may end one step later, after that update."""
    steps: int
    """Number of steps that were trained, up to the failure or to the last step of the trace."""
    source: str
    """Name of the data source."""
    substitute: bool
    """Whether that source is a substitute for the paper's data."""
    reference: bool
    """Whether the trace is a reference trace, which was shipped with the code, and not trained here."""
    key: str
    """Key of the run whose trace this is. That of a reference trace differs from the key that the run would have."""
    provenance: dict[str, Any]
    stands_for: str = ""
    """What of the paper's the model stands in for; empty if it stands for nothing but itself."""

    @property
    def whole_cost(self) -> dict[str, Any]:
        """The provenance, whose seconds include the training whose weights were measured, if its time is known."""
        training = (self.provenance.get("parent") or {}).get("seconds")
        if not training or not self.provenance.get("seconds"):
            return self.provenance
        return self.provenance | {"seconds": self.provenance["seconds"] + training}


@dataclass(frozen=True)
class Loaded:
    """The traces of the runs of one experiment at one scale, and the facts about them."""

    frame: pd.DataFrame
    facts: dict[tuple[str, int], RunFacts]
    """The facts of each run, by its name and seed."""
    missing: list[ResolvedRun]
    """The runs without a sealed trace."""


def load(resolved: Resolved, store: Store, *, reference: bool, figures: Path | None = None) -> Loaded:
    """Read the sealed traces of all runs of `resolved`, including those that only its claims need.

    Args:
        reference: whether a reference trace stands in for a run that the store lacks.
        figures: the folder with the reference traces; by default the one that comes with the code.

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
        # A trace does not repeat what run.yaml says, so the columns of the run are added here.
        parts.append(trace.assign(run=run.name, label=run.label, setting=run.setting, seed=run.seed))
        own_facts = _facts(run, shipped or own, trace, reference=shipped is not None)
        earlier = facts.get((run.name, run.seed))  # there if several measurements read one run
        facts[run.name, run.seed] = own_facts if earlier is None else _together(earlier, own_facts)
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))
    return Loaded(frame[list(COLUMNS)].astype(COLUMNS), facts, missing)


def _together(earlier: RunFacts, later: RunFacts) -> RunFacts:
    """The facts of one run that several jobs have measured, each at a different step."""
    spent = [one.provenance["seconds"] for one in (earlier, later) if one.provenance.get("seconds")]
    return replace(
        later,
        steps=max(earlier.steps, later.steps),
        reference=earlier.reference or later.reference,
        provenance=later.provenance | ({"seconds": sum(spent)} if spent else {}),
    )


def _facts(run: ResolvedRun, folder: RunFolder, trace: pd.DataFrame, *, reference: bool) -> RunFacts:
    provenance = folder.provenance()
    return RunFacts(
        run=run.name,
        label=run.label,
        setting=run.setting,
        seed=run.seed,
        layers=run.layers or provenance["model"]["layers"],
        failed=provenance["failed"],
        failed_step=provenance["failed_step"],
        steps=provenance["failed_step"] if provenance["failed"] else int(trace["step"].max()),
        source=run.data.source,
        substitute=provenance["substitute"],
        reference=reference,
        key=folder.key,
        provenance=provenance,
        stands_for=run.stands_for,
    )


def metric_rows(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows of the metric `name`, in the order of the frame.

    Args:
        name: a metric of `reproduce.metrics.table`, or a sum or difference of metrics such as `a + b - c`, which is
            computed at the steps and layers that all of its terms have.

    Returns:
        Columns run, label, setting, seed, step, layer, value. There are no rows if the metric was not recorded.

    Raises:
        ValueError: there is no such metric, or it is a fact of a run, which no trace records.
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
    if metric.product_of:
        (first, power), *others = metric.product_of
        rows = _one_metric(frame, first).assign(value=lambda of: of["value"] ** power)
        for factor, power in others:
            pairs = rows.merge(_one_metric(frame, factor), on=_POINT, suffixes=("", "_right"))
            rows = pairs.assign(value=pairs["value"] * pairs.pop("value_right") ** power)
        return rows
    if metric.place is None:
        raise ValueError(f"{name} is a fact of a run, which no trace records")
    split, recorded_as = metric.place
    of_metric = (frame["split"] == split) & (frame["metric"] == recorded_as)
    return frame.loc[of_metric, [*_POINT, "value"]].reset_index(drop=True)
