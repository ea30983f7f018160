"""The cost of a figure, as the provenance of its traces has it."""

from __future__ import annotations

from typing import Any

import pytest

from reproduce.report.cost import machines, measured_cost

CPU: dict[str, Any] = {"seconds": 600.0, "threads": 2, "device": "EPYC", "machine": {"cpu": "EPYC", "cores": 8}}
GPU: dict[str, Any] = {**CPU, "device": "H100", "devices": 4}


@pytest.mark.parametrize(
    ("provenances", "told"),
    [
        ([CPU], "20 core-minutes"),
        ([CPU, CPU | {"threads": 1}], "30 core-minutes"),
        ([CPU | {"devices": 2}], "40 core-minutes"),
        ([CPU | {"cpu_seconds": 300.0}], "5 core-minutes"),
        ([GPU | {"cpu_seconds": 300.0}], "40 GPU-minutes"),
        ([GPU], "40 GPU-minutes"),
        ([CPU, GPU], "20 core-minutes and 40 GPU-minutes"),
        ([CPU] * 60, "20 core-hours"),
        ([CPU | {"kind": "quantise"}], "20 core-minutes after training"),
        ([{"seconds": 600.0}], "10 core-minutes"),
        ([{}], ""),
        ([], ""),
    ],
)
def test_minutes_of_cores_and_of_accelerators_are_added_up(provenances: list[dict[str, Any]], told: str) -> None:
    assert measured_cost(provenances) == told


def test_each_machine_is_named_once() -> None:
    assert machines([CPU, CPU, GPU]) == "EPYC (8 cores), H100"
    assert machines([{}]) == ""
