from __future__ import annotations

import pytest

from reproduce.bench.measure import MEASUREMENTS
from reproduce.bench.rows import JOBS, Row


def test_every_job_is_measured_and_every_measurement_is_a_job() -> None:
    assert [job.name for job in JOBS] == list(MEASUREMENTS)


def test_every_row_aims_for_exactly_one_bound() -> None:
    for job in JOBS:
        for row in job.rows.values():
            assert (row.at_least is None) != (row.at_most is None), row


@pytest.mark.parametrize(
    ("row", "ratio", "met", "told", "aim"),
    [
        (Row("a", "b", at_least=0.8, percent=True), 0.8, True, "80 %", "at least 80 %"),
        (Row("a", "b", at_least=0.8, percent=True), 0.79, False, "79 %", "at least 80 %"),
        (Row("a", "b", at_most=1.6), 1.6, True, "1.60 times", "at most 1.60 times"),
        (Row("a", "b", at_most=1.6), 1.61, False, "1.61 times", "at most 1.60 times"),
        (Row("a", "b", at_most=0.4, unit="s"), 0.41, False, "0.41 s", "at most 0.4 s"),
    ],
)
def test_a_row_says_whether_its_aim_is_met(row: Row, ratio: float, met: bool, told: str, aim: str) -> None:
    assert (row.met(ratio), row.told(ratio), row.aim()) == (met, told, aim)
