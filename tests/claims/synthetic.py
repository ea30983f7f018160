"""Synthetic traces within the range of each metric, among which a search finds some that satisfy a claim and some not.

A trace is drawn in three steps. A latent curve for each run, layer and step adds a level of the run, a profile over
layers, a shape over steps and noise. Each metric then reads the same latent curve, its mirror image or one of its own,
so that metrics agree, oppose each other or have nothing in common. Last, the latent curve is mapped into the range of
the metric: kurtosis lies above 1 and below the width, a correlation between 0 and 1, a quadratic term above 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reproduce.metrics.table import METRICS, recorded_names
from reproduce.specs.claims import metrics_of, quantities, runs_of
from reproduce.specs.schema import Claim, Quantity
from reproduce.store.frame import COLUMNS, Loaded, RunFacts

from .traces import Traces

Latent = NDArray[np.float64]
"""Values between about -1 and 1, by run, layer and step."""

BLOCKS = 6
WIDTH = 2048
RUN_LEVELS = ("equal", "random", "ascending", "descending", "left", "right")
LAYER_PROFILES = ("flat", "rising", "falling", "peaked")
STEP_SHAPES = ("flat", "rising", "falling", "peaked")

_AT_LEAST_ONE = {"kurtosis", "kurtosis_centred", "mmr_mean", "mmr_median", "mmr_max"}
_UNIT = {"input_correlation_mean", "input_correlation_rms", "feature_correlation_rms", "accuracy"}
_SIGNED = {"m2_update_linear", "m4_update_linear", "m4_update_cubic"}


def draws(claim: Claim, last_step: int, seeds: range) -> tuple[Loaded, list[dict[str, str]]]:
    """Traces of the runs that `claim` reads, once for each of `seeds`.

    Returns:
        The traces, and for each seed the runs of the claim with the names that they have among them.
    """
    parts, facts, names = [], {}, []
    for seed in seeds:
        columns, own = _draw(claim, last_step, np.random.default_rng(seed))
        names.append({run: f"{run} {seed}" for run in own})
        parts.append(pd.DataFrame(columns | {"label": "", "setting": "toy", "seed": 0}))
        parts[-1]["run"] = parts[-1]["run"] + f" {seed}"
        facts |= {(f"{run} {seed}", 0): fact for run, fact in own.items()}
        facts |= {(run, 0): fact for run, fact in own.items()}  # for the number of layers of a run
    frame = pd.concat(parts, ignore_index=True).reindex(columns=list(COLUMNS))
    return Loaded(frame, facts, []), names


def _draw(claim: Claim, last_step: int, rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, RunFacts]]:
    steps = np.linspace(0, last_step, 9, dtype=int)
    runs = runs_of(claim)
    recorded = {name for side in quantities(claim).values() for one in metrics_of(side) for name in recorded_names(one)}
    shared = _latent(claim, runs, len(steps), rng)
    span = rng.choice([0.3, 3.0])
    target = _target(claim) if rng.random() < 0.3 else None
    parts: list[dict[str, Any]] = []
    facts: dict[str, RunFacts] = {}
    for metric in METRICS.values():
        if metric.place is None or metric.place[1] not in recorded:
            continue
        own = [shared, -shared, _latent(claim, runs, len(steps), rng)][rng.choice(3, p=[0.5, 0.25, 0.25])]
        values = _in_range(metric.place[1], own, span, rng)
        if target is not None:
            values = _at_target(claim, metric.name, runs, values, target)
        parts.append(_rows(metric.name, runs, steps, values))
    for run in runs:
        failed_step = last_step if rng.random() < 0.1 else None
        facts[run] = Traces(BLOCKS).add(run, "train_loss", [1.0], failed_step=failed_step).facts[run, 0]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {"run": []}
    return columns, facts


def _latent(claim: Claim, runs: list[str], steps: int, rng: np.random.Generator) -> Latent:
    left, many = claim.left.run_names, max(1, len(runs) - 1)
    place = np.array([left.index(run) if run in left else len(left) for run in runs], dtype=float)
    of_run = {
        "equal": np.zeros(len(runs)),
        "random": rng.uniform(-1, 1, len(runs)),
        "ascending": 2 * place / many - 1,
        "descending": 1 - 2 * place / many,
        "left": np.array([1.0 if run in left else -1.0 for run in runs]),
        "right": np.array([-1.0 if run in left else 1.0 for run in runs]),
    }[rng.choice(RUN_LEVELS)]
    shapes = [
        _shape(str(rng.choice(names)), size, rng)
        for names, size in ((LAYER_PROFILES, BLOCKS + 1), (STEP_SHAPES, steps))
    ]
    noise = rng.choice([0.0, 0.02, 0.3]) * rng.standard_normal((len(runs), BLOCKS + 1, steps))
    weights = rng.dirichlet([0.15, 0.15, 0.15])  # most often one of the three is nearly all
    return (
        weights[0] * of_run[:, None, None]
        + weights[1] * shapes[0][None, :, None]
        + weights[2] * shapes[1][None, None, :]
        + noise
    )


def _shape(name: str, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    line = np.linspace(-1, 1, size)
    peak = -np.ones(size)
    peak[rng.integers(size)] = 1.0
    return {"flat": np.zeros(size), "rising": line, "falling": -line, "peaked": peak}[name]


def _in_range(recorded: str, latent: Latent, span: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """The latent curve as values that the metric can have."""
    if recorded == "eq5_residual":
        return np.zeros_like(latent)
    if recorded in _AT_LEAST_ONE:
        return np.clip(1 + 10 ** (rng.uniform(-1, 1.5) + span * latent), 1, WIDTH)
    if recorded in _UNIT:
        return 1 / (1 + np.exp(-2 * span * latent - rng.uniform(-1, 1)))
    size = np.exp(rng.uniform(-1, 1) + span * latent)
    return size * rng.choice([-1.0, 1.0]) if recorded in _SIGNED else size


def _target(claim: Claim) -> list[float] | None:
    """The numbers that the claim asks for, one for each run of its left side."""
    right = claim.right
    if isinstance(right, list):
        return [float(value) for value in right]
    if isinstance(right, Quantity | str) or right is None:
        return [0.0 for _ in claim.left.run_names]
    return [float(right) for _ in claim.left.run_names]


def _at_target(
    claim: Claim, metric: str, runs: list[str], values: NDArray[np.float64], target: list[float]
) -> NDArray[np.float64]:
    """Constant curves that hit `target` on the left side; a difference hits it above what its other run has."""
    base = {"eval_loss": np.log(20.0)}.get(metric, 0.5 if METRICS[metric].place == ("eval", "accuracy") else 3.0)
    flat = np.full_like(values, base if metric not in _UNIT else 0.5)
    for run, number in zip(claim.left.run_names, target, strict=True):
        if metrics_of(claim.left)[0] == "eval_ppl":
            level = np.log(20.0 + number + claim.plus)
        elif claim.left.minus_run is None and not isinstance(claim.right, Quantity | str):
            level = number + (1.0 if claim.form == "variance" else 0.0)
        else:
            level = flat.flat[0] * claim.factor + claim.plus
        flat[runs.index(run)] = level
    return flat


def _rows(metric: str, runs: list[str], steps: NDArray[np.int64], values: NDArray[np.float64]) -> dict[str, Any]:
    """The columns of one metric: a curve over `steps` for each run and layer."""
    known = METRICS[metric]
    assert known.place is not None, f"no trace records {metric}"
    blocks = [str(layer) for layer in range(1, BLOCKS + 1)]
    layers = {"run": [""], "attention": blocks, "update": ["2"]}.get(known.subject, [*blocks, "unembed"])
    curves = len(runs) * len(layers)
    return {
        "run": np.repeat(np.array(runs, dtype=object), len(layers) * len(steps)),
        "layer": np.tile(np.repeat(np.array(layers, dtype=object), len(steps)), len(runs)),
        "step": np.tile(steps, curves),
        "value": values[:, : len(layers)].ravel(),
        "split": np.full(curves * len(steps), known.place[0], dtype=object),
        "metric": np.full(curves * len(steps), known.place[1], dtype=object),
    }
