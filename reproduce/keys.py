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

NUMERICS_VERSION: dict[str, int] = {
    "transformer": 1,
    "mlp": 1,
    "vit": 1,
    "text": 1,
    "images": 1,
    "adamw": 1,
    "sgd": 1,
    "adafactor": 1,
    "soap": 1,
    "adafactor-rotated": 1,
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


def components(config: RunConfig) -> tuple[str, ...]:
    """Names in `NUMERICS_VERSION` of all that the numbers of a run depend on."""
    return (config.model.kind, config.data.kind, config.optimizer.name, "schedule", "probe", "divergence", "train")


def canonical(config: RunConfig) -> dict[str, Any]:
    """What is hashed: the config without its defaults, and the versions of the components it uses.

    Where data lies is left out once its fingerprint says what it is: a folder that was moved holds the same text.
    """
    numerics = {
        name: NUMERICS_VERSION[name]
        for name in components(config)
        if name not in _KEYED_FROM_2 or NUMERICS_VERSION[name] > 1
    }
    kinds = {"model": {"kind": config.model.kind}, "data": {"kind": config.data.kind}}
    body = config.model_dump(mode="json", exclude_defaults=True)
    for section, kind in kinds.items():
        body[section] = kind | body[section]
    if config.data.fingerprint:
        body["data"].pop("path", None)
    return {"config": body, "numerics": numerics}


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
