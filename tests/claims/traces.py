"""Traces and claims made by hand, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from reproduce.metrics.table import METRICS
from reproduce.specs.claims import runs_of
from reproduce.specs.schema import Claim, Quantity
from reproduce.store.frame import COLUMNS, RunFacts

Curves = Sequence[float] | Mapping[str, Sequence[float]]


class Traces:
    """A frame and its facts, one curve after the other; `layers` blocks in every model."""

    def __init__(self, layers: int = 3) -> None:
        self.layers = layers
        self.rows: list[dict[str, Any]] = []
        self.facts: dict[tuple[str, int], RunFacts] = {}

    @property
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows, columns=list(COLUMNS)).astype(COLUMNS)

    def add(
        self,
        run: str,
        metric: str,
        curves: Curves,
        *,
        seed: int = 0,
        steps: Sequence[int] | None = None,
        failed_step: int | None = None,
        substitute: bool = False,
    ) -> Traces:
        """Record one curve, or one for each layer; steps are 0, 10, 20, ... unless given."""
        place = METRICS[metric].place
        assert place is not None, f"no trace records {metric}"
        split, name = place
        point = {"run": run, "label": run, "setting": "toy", "seed": seed, "split": split, "metric": name}
        for layer, values in (curves if isinstance(curves, Mapping) else {"": curves}).items():
            at = steps if steps is not None else range(0, 10 * len(values), 10)
            self.rows += [
                {**point, "layer": layer, "step": step, "value": value} for step, value in zip(at, values, strict=True)
            ]
        if (run, seed) not in self.facts or failed_step is not None:
            self.facts[run, seed] = RunFacts(
                run=run,
                label=run,
                setting="toy",
                seed=seed,
                layers=self.layers,
                failed=failed_step is not None,
                failed_step=failed_step,
                steps=100,
                source="python-stdlib" if substitute else "codeparrot",
                substitute=substitute,
                reference=False,
                key="0" * 16,
                provenance={},
            )
        return self


def quantity(metric: str = "kurtosis", run: str | None = "a", **fields: Any) -> Quantity:
    """The kurtosis of run a at its last step, unless told otherwise; a layer where the metric has layers."""
    fields = {"over": "final", **fields}
    return Quantity.model_validate({"metric": metric, "run": None if "runs" in fields else run, **fields})


def claim(left: Quantity, cmp: str, right: Any = None, **fields: Any) -> Claim:
    """A claim with what every claim must have."""
    needed = {"id": "c1", "says": "so it is", "source": "Sec 3", "basis": "quantified"}
    return Claim.model_validate({**needed, "left": left, "cmp": cmp, "right": right, **fields})


def random_traces(
    claims: Sequence[Claim], *, layers: int = 6, seeds: int = 1
) -> tuple[pd.DataFrame, dict[tuple[str, int], RunFacts]]:
    """Every metric of every run that the claims read, in every layer, for some seeds: random numbers above 1."""
    blocks = [str(layer + 1) for layer in range(layers)]
    template = Traces(layers)
    probed = {"run": [""], "stream": [*blocks, "unembed"], "attention": blocks, "update": ["2"]}
    for metric in METRICS.values():
        if metric.place is not None:
            template.add("", metric.name, {layer: [0.0] * 6 for layer in probed[metric.subject]})
    rng, bare, parts, facts = np.random.default_rng(0), template.frame, [], {}
    for run in dict.fromkeys(name for one in claims for name in runs_of(one)):
        for seed in range(seeds):
            parts.append(bare.assign(run=run, seed=seed, value=1 + rng.exponential(size=len(bare))))
            facts[run, seed] = replace(template.facts["", 0], run=run, seed=seed)
    return pd.concat(parts, ignore_index=True), facts
