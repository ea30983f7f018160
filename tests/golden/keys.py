"""The recipe key and the key of every run of every experiment at every scale, as on a machine without bfloat16.

Data has no fingerprint here: the embedded corpus is the running interpreter's own. Precision `auto` is fp32, so that
the key is the recipe key, and stands only where the two differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from reproduce.job_config import MeasureConfig
from reproduce.keys import NUMERICS_VERSION, components
from reproduce.specs.load import list_experiments
from reproduce.specs.resolve import resolve
from reproduce.specs.runs import ResolvedRun
from reproduce.specs.schema import SCALES
from tests.golden.record import FOLDER

PATH = FOLDER / "keys.json"
Keys = dict[str, dict[str, str]]
"""`experiment/scale` -> `run seed` -> recipe key, followed by the key where it is another one."""


def shipped_runs() -> dict[tuple[str, str], ResolvedRun]:
    """By (`experiment/scale`, `run seed`)."""
    found = {}
    with patch("reproduce.specs.resolve.best_precision", lambda machine: "fp32"):
        for experiment in list_experiments():
            for scale in SCALES:
                resolved = resolve(experiment, scale, fingerprint=lambda data: "")
                for run in (*resolved.runs, *resolved.extra):
                    # A run of checkpoints is one job for each of its steps.
                    step = f" at {run.config.last_step}" if isinstance(run.config, MeasureConfig) else ""
                    found[f"{experiment.id}/{scale}", f"{run.name} {run.seed}{step}"] = run
    return found


def keys(runs: Mapping[tuple[str, str], ResolvedRun]) -> Keys:
    named: Keys = {}
    for (place, name), run in runs.items():
        fresh = replace(run)  # a run computes its key once, and the versions may have changed since
        recipe, key = fresh.recipe, fresh.key
        named.setdefault(place, {})[name] = recipe if recipe == key else f"{recipe} {key}"
    return named


def read_keys() -> tuple[dict[str, int], Keys]:
    """The versions that the golden keys were made at, and the keys."""
    tree: dict[str, Any] = json.loads(PATH.read_text())
    return tree["versions"], tree["keys"]


def write_keys(named: Keys) -> None:
    """One line for each experiment and scale."""
    lines = ",\n".join(f"  {json.dumps(place)}: {json.dumps(of_place)}" for place, of_place in named.items())
    PATH.write_text(f'{{"versions": {json.dumps(NUMERICS_VERSION)},\n"keys": {{\n{lines}\n}}}}\n', encoding="utf-8")


def moves(versions: Mapping[str, int], golden: Keys, runs: Mapping[tuple[str, str], ResolvedRun]) -> dict[str, str]:
    """Every golden run whose keys are others now, or that is gone, with what moved it."""
    now, told = keys(runs), {}
    for place, of_place in golden.items():
        for name, old in of_place.items():
            run = runs.get((place, name))
            if run is None:
                told[f"{place} {name}"] = "it is gone"
            elif now[place][name] != old:
                raised = [
                    f"{part} is at version {NUMERICS_VERSION[part]} and was at {versions.get(part, 0)}"
                    for part in dict.fromkeys([*components(run.config), *components(run.training or run.config)])
                    if NUMERICS_VERSION[part] != versions.get(part)
                ]
                told[f"{place} {name}"] = ", ".join(raised) or "its configuration, or how a key is made of one"
    return told
