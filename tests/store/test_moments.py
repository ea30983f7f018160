"""Conventions of kurtosis from kept moments: closed forms, and what the trace itself recorded."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reproduce.store.moments import CONVENTIONS, recompute
from reproduce.store.reference import read_index, reference_root
from reproduce.store.runs import RunFolder


def frame(*vectors: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"step": range(len(vectors)), "layer": "1", "second_moment": [np.array(v) for v in vectors]})


@pytest.mark.parametrize(
    ("convention", "equal", "single", "pair"),
    [
        ("eq1", 1.0, 4.0, 2.0),
        ("variance", 0.0, 3.0, 1.0),
        ("sample", 0.0, 4.0, 4 / 3),
        ("neurons", 4.0, 1.0, 2.0),
        ("share", 0.25, 1.0, 0.5),
    ],
)
def test_closed_forms(convention: str, equal: float, single: float, pair: float) -> None:
    table = recompute(frame([3.0] * 4, [0.0, 0.0, 5.0, 0.0], [0.0, 2.0, 0.0, 2.0]), convention)
    assert table["value"].tolist() == pytest.approx([equal, single, pair])
    assert table["neuron"].tolist() == [0, 2, 1]


def test_zero_activations_have_no_kurtosis() -> None:
    for convention in CONVENTIONS:
        (value,) = recompute(frame([0.0, 0.0]), convention)["value"]
        assert math.isnan(value), convention


def test_a_shipped_trace_recorded_what_its_moments_say() -> None:
    figures = reference_root()
    entry = next(entry for entry in read_index("laptop", figures).values() if entry["folder"].startswith("cp-op-"))
    folder = RunFolder(Path(figures) / "laptop" / "traces" / entry["folder"])
    table = recompute(folder.read_moments(), "eq1").set_index(["step", "layer"])["value"]
    trace = folder.read_trace()
    recorded = trace[(trace.split == "probe") & (trace.metric == "kurtosis")].set_index(["step", "layer"])["value"]
    assert len(table) > 20
    np.testing.assert_allclose(table, recorded[table.index], rtol=1e-5)
