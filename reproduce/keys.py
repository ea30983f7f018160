"""The key of a run, which is a hash of everything that changes its numbers.

The hash is taken of the canonical JSON of a job's configuration, without the fields that equal their defaults, together
with the numerics version of each component that the job uses. Source code is never hashed. Whoever changes what a
component computes has to raise its version here, and only then are its runs trained again.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from reproduce.config import RunConfig
from reproduce.job_config import CheckpointParent, JobConfig, MeasureConfig, QuantiseConfig, kind_of
from reproduce.metrics.table import ATTENTION_METRICS, CHECKPOINT_METRICS, STREAM_METRICS
from reproduce.optim.records import OPTIMIZERS

NUMERICS_VERSION: dict[str, int] = {
    "transformer": 3,
    "mlp": 2,
    "vit": 2,
    "text": 1,
    "images": 1,
    **{name: record.numerics_version for name, record in OPTIMIZERS.items()},
    "schedule": 1,
    "probe": 1,
    "checkpoint": 1,
    "quantise": 3,
    "divergence": 1,
    "train": 1,
}
"""Version of what each component computes. CONTRIBUTING.md says when a version has to be raised."""

SAME_BUT_FOR_ROUNDING: dict[tuple[str, int], int] = {
    **{("transformer", 2): 1, ("transformer", 3): 1, ("mlp", 2): 1, ("vit", 2): 1},
    ("quantise", 3): 2,
}
"""A component and its version -> the earliest version with the same equations, in another order of operations.

Numbers of the two differ as those of two processors do, so that a reference trace of the earlier version still shows
the experiment. A version that computes something else is not listed here.
"""

_KEYED_FROM_2 = frozenset({"divergence"})
"""Components that were part of another component when the first keys were computed.

At version 1 they compute what they did then, so only a later version enters a key. A component that is added to
`NUMERICS_VERSION` belongs here if earlier runs used it as part of another one.
"""


def components(config: JobConfig) -> tuple[str, ...]:
    """The components, by their names in `NUMERICS_VERSION`, on which the numbers of a job depend.

    Those of a parent are left out, since they are part of the parent's key.
    """
    if isinstance(config, QuantiseConfig):
        return ("quantise",)
    if isinstance(config, MeasureConfig):
        return ("probe",) if config.text is None else ("checkpoint",)
    return (config.model.kind, config.data.kind, config.optimizer.name, "schedule", "probe", "divergence", "train")


def canonical(config: JobConfig) -> dict[str, Any]:
    """The value that is hashed: the configuration without defaults, and the versions of the components that it uses.

    The path of the data is left out if their fingerprint is known, because a folder that was moved holds the same data.
    So are the path and the name of a local checkpoint, and the branch or tag of one on a hub whose commit is known.
    Only measurements have the field `kind`, because trainings had keys before there were other kinds of jobs.
    """
    if not isinstance(config, RunConfig):
        body = config.model_dump(mode="json", exclude_defaults=True)
        value = {"kind": kind_of(config), "config": body, "numerics": _numerics(config)}
        _leave_out_places(body, config)
        if not isinstance(config, MeasureConfig):
            return value
        # With one more metric in the table, the key changes and the model is measured again, which is cheap.
        measured = [*STREAM_METRICS, *ATTENTION_METRICS] if config.text is None else CHECKPOINT_METRICS
        return value | {"metrics": sorted(measured)}
    kinds = {"model": {"kind": config.model.kind}, "data": {"kind": config.data.kind}}
    body = config.model_dump(mode="json", exclude_defaults=True)
    # `kind` has a default in each type, so that it was left out above, and it tells the types apart.
    for section, kind in kinds.items():
        body[section] = kind | body[section]
    if config.data.fingerprint:
        body["data"].pop("path", None)
    return {"config": body, "numerics": _numerics(config)}


def _leave_out_places(body: dict[str, Any], config: MeasureConfig | QuantiseConfig) -> None:
    """Leave out of the `body` of a job where its checkpoint and its text lie, and what names them only."""
    if isinstance(config.parent, CheckpointParent):
        opened = {"allow_pickle", "trust_remote_code"}
        if config.parent.fingerprint:
            opened |= {"revision"} if config.parent.form == "hub" else {"path", "name", "form"}
        body["parent"] = {"kind": "checkpoint"} | {
            name: value for name, value in body["parent"].items() if name not in opened
        }
    if config.text is not None and config.text.fingerprint:
        body["text"].pop("path", None)


def _numerics(config: JobConfig) -> dict[str, int]:
    """The versions of the components that enter the key."""
    return {
        name: NUMERICS_VERSION[name]
        for name in components(config)
        if name not in _KEYED_FROM_2 or NUMERICS_VERSION[name] > 1
    }


def _digest(value: object) -> str:
    """The first 16 hexadecimal digits (64 bits) of the SHA-256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_key(config: JobConfig) -> str:
    """The key of a job: 16 hexadecimal digits. On one machine, jobs with equal keys have equal numbers."""
    return _digest(canonical(config))


def recipe_key(config: JobConfig, *lineage: JobConfig) -> str:
    """The key of a job's recipe, which leaves out what may differ between machines. All machines have the same.

    Reference traces are found by recipe. The embedded corpus is the library of the running Python interpreter, so its
    fingerprint differs between releases of Python although the experiment is the same. The precision differs between
    processors, and the order of operations between versions of a component (`SAME_BUT_FOR_ROUNDING`). A local
    checkpoint is part of the recipe by its fingerprint, and one on a hub by its name and revision.

    Args:
        config: the training, or the training that is measured, or the measurement of a checkpoint.
        lineage: the job that starts from `config`, such as a measurement of it, if that is the job.
    """
    body = canonical(config)
    _leave_out_machine(body, config)
    recipe = _digest(body)
    for child in lineage:
        body = canonical(child)
        body["config"]["parent"]["key"] = recipe
        _leave_out_machine(body, child)
        recipe = _digest(body)
    return recipe


def _leave_out_machine(body: dict[str, Any], config: JobConfig) -> None:
    """Leave out of a canonical `body` what differs between machines, and fingerprints of what is the same elsewhere.

    A checkpoint on a hub is the same elsewhere by its name and revision.
    """
    body["numerics"] = {
        name: SAME_BUT_FOR_ROUNDING.get((name, version), version) for name, version in body["numerics"].items()
    }
    own = body["config"]
    own.pop("precision", None)
    for text in ("data", "text"):
        if text in own:
            own[text].pop("fingerprint", None)
    if (
        isinstance(config, MeasureConfig | QuantiseConfig)
        and isinstance(config.parent, CheckpointParent)
        and config.parent.form == "hub"
    ):
        own["parent"].pop("fingerprint", None)
        own["parent"]["revision"] = config.parent.revision
