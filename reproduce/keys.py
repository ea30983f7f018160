"""The identity of a run: a hash of everything that changes its numbers.

A key is a hash of the canonical JSON of a `RunConfig`, without the fields equal to their defaults, together
with the numerics version of each component involved. Source text is never hashed: who changes what a
component computes raises its number here, and only then are its runs trained again.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from reproduce.config import RunConfig
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
    "train": 1,
}


def canonical(config: RunConfig) -> dict[str, Any]:
    """What is hashed: the config without its defaults, and the versions of the components it uses.

    Where data lies is left out once its fingerprint says what it is: a folder that was moved holds the same text.
    """
    used = (config.model.kind, config.data.kind, config.optimizer.name, "schedule", "probe", "train")
    kinds = {"model": {"kind": config.model.kind}, "data": {"kind": config.data.kind}}
    body = config.model_dump(mode="json", exclude_defaults=True)
    for section, kind in kinds.items():
        body[section] = kind | body[section]
    if config.data.fingerprint:
        body["data"].pop("path", None)
    return {"config": body, "numerics": {name: NUMERICS_VERSION[name] for name in used}}


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_key(config: RunConfig) -> str:
    """16 hexadecimal digits that name the run `config`; equal keys mean equal numbers on one machine."""
    return _digest(canonical(config))


def recipe_key(config: RunConfig) -> str:
    """The key of the same recipe on any machine: without the data's fingerprint and the precision.

    Reference traces are found by it: the embedded corpus is the running interpreter's own library, so its
    fingerprint differs between Python releases although the experiment is the same.
    """
    body = canonical(config)
    body["config"]["data"].pop("fingerprint", None)
    body["config"].pop("precision", None)
    return _digest(body)
