"""The identity of a run: a hash of everything that changes its numbers.

A key is a hash of the canonical JSON of a `RunConfig`, without the fields equal to their defaults, together
with the numerics version of each component involved. Source text is never hashed: who changes what a
component computes raises its number here, and only then are its runs trained again.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from reproduce.config import JobConfig, MeasureConfig, RunConfig
from reproduce.metrics.table import ATTENTION_METRICS, STREAM_METRICS
from reproduce.optim.records import OPTIMIZERS

NUMERICS_VERSION: dict[str, int] = {
    "transformer": 1,
    "mlp": 1,
    "vit": 1,
    "text": 1,
    "images": 1,
    **{name: record.numerics_version for name, record in OPTIMIZERS.items()},
    "schedule": 1,
    "probe": 1,
    "divergence": 1,
    "train": 1,
}
"""What each component computes, by number. See CONTRIBUTING.md for when a number is raised."""

_KEYED_FROM_2 = frozenset({"divergence"})
"""Components that were part of another one when the first keys were given out.

At version 1 they compute what those keys stand for, so only a later version enters a key. A component that is added to
`NUMERICS_VERSION` belongs here when runs that were trained before used it under another name.
"""


def components(config: JobConfig) -> tuple[str, ...]:
    """Names in `NUMERICS_VERSION` of all that the numbers of a job depend on, beside those of its parent."""
    if isinstance(config, MeasureConfig):
        return ("probe",)
    return (config.model.kind, config.data.kind, config.optimizer.name, "schedule", "probe", "divergence", "train")


def canonical(config: JobConfig) -> dict[str, Any]:
    """What is hashed: the config without its defaults, and the versions of the components it uses.

    Where data lies is left out once its fingerprint says what it is: a folder that was moved holds the same text.
    A measurement is told from a training by its `kind`, which only measurements carry: trainings had keys before there
    was anything else.
    """
    if isinstance(config, MeasureConfig):
        body = config.model_dump(mode="json", exclude_defaults=True)
        measured = sorted([*STREAM_METRICS, *ATTENTION_METRICS])  # one more is measured anew, which is cheap
        return {"kind": config.kind, "config": body, "metrics": measured, "numerics": _numerics(config)}
    kinds = {"model": {"kind": config.model.kind}, "data": {"kind": config.data.kind}}
    body = config.model_dump(mode="json", exclude_defaults=True)
    for section, kind in kinds.items():
        body[section] = kind | body[section]
    if config.data.fingerprint:
        body["data"].pop("path", None)
    return {"config": body, "numerics": _numerics(config)}


def _numerics(config: JobConfig) -> dict[str, int]:
    """The version of each component that enters the key."""
    return {
        name: NUMERICS_VERSION[name]
        for name in components(config)
        if name not in _KEYED_FROM_2 or NUMERICS_VERSION[name] > 1
    }


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_key(config: JobConfig) -> str:
    """16 hexadecimal digits that name the job `config`; equal keys mean equal numbers on one machine."""
    return _digest(canonical(config))


def recipe_key(config: RunConfig, *lineage: MeasureConfig) -> str:
    """The key of the same recipe on any machine: without the data's fingerprint and the precision.

    Reference traces are found by it: the embedded corpus is the running interpreter's own library, so its
    fingerprint differs between Python releases although the experiment is the same.

    Args:
        lineage: the measurement of the training `config`, if that is the job.
    """
    body = canonical(config)
    body["config"]["data"].pop("fingerprint", None)
    body["config"].pop("precision", None)
    recipe = _digest(body)
    for child in lineage:
        body = canonical(child)
        body["config"]["parent"]["key"] = recipe
        body["config"].pop("precision", None)
        recipe = _digest(body)
    return recipe
