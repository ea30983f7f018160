"""`ofe diff`: two runs, or one figure at two scales."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from reproduce.cli.app import app
from reproduce.specs.load import load_experiment
from reproduce.specs.resolve import resolve
from reproduce.store.runs import Store

OP, PRE_LN = "cp-op-laptop-s0", "cp-preln-laptop-s0"


def ofe(tmp_path: Path, *arguments: str) -> Result:
    """The command line on the shipped specs and traces, with an empty home."""
    return CliRunner().invoke(app, ["diff", *arguments], env={"OFE_HOME": str(tmp_path), "OFE_DEVICE": "cpu"})


def test_two_runs_differ_in_the_fields_of_their_blocks_and_in_what_they_measured(tmp_path: Path) -> None:
    told: dict[str, Any] = json.loads(ofe(tmp_path, OP, PRE_LN, "--json").stdout)
    assert (told["a"]["slug"], told["b"]["slug"]) == (OP, PRE_LN)
    fields = {row["field"]: (row["a"], row["b"]) for row in told["config"]}
    assert fields["model.block.post_qk"] == ("rms", "none")
    assert all(name.startswith("model.block.") for name in fields)
    trace = {(row["metric"], row["what"]): (row["a"], row["b"]) for row in told["trace"]}
    # The record beside the shipped picture has these numbers as well, in the claims p4 and p3.
    record = json.loads((Path(__file__).parents[2] / "figures" / "laptop" / "fig2.json").read_text())
    p4 = next(verdict["measured"] for verdict in record["verdicts"] if verdict["claim"] == "p4")
    assert trace["eval_loss", "last"] == pytest.approx((p4["left"], p4["right"]))
    peak = next(verdict["measured"] for verdict in record["verdicts"] if verdict["claim"] == "p3")["right"]
    assert trace["kurtosis", "peak"][0] == pytest.approx(peak)


def test_errors_of_rounding_are_not_divided(tmp_path: Path) -> None:
    rows = [line.split() for line in ofe(tmp_path, OP, PRE_LN).stdout.splitlines()]
    assert {len(row) for row in rows if row[:1] == ["eq5_residual"]} == {4}
    assert {len(row) for row in rows if row[:1] == ["kurtosis"]} == {5}


def test_a_shipped_trace_stands_in_for_a_run_that_has_not_ended(tmp_path: Path) -> None:
    begun = resolve(load_experiment("fig2"), "laptop", only_runs=["cp-op"], fingerprint=lambda data: "none").runs[0]
    assert Store(tmp_path).create(begun).slug == OP
    assert ofe(tmp_path, OP, PRE_LN).exit_code == 0


def test_a_run_does_not_differ_from_itself(tmp_path: Path) -> None:
    done = ofe(tmp_path, OP, OP)
    assert "The configurations are equal." in done.stdout
    rows = json.loads(ofe(tmp_path, OP, OP, "--json").stdout)["trace"]
    assert rows
    assert all(row["a"] == row["b"] for row in rows)


def test_traces_stand_side_by_side(tmp_path: Path) -> None:
    rows = json.loads(ofe(tmp_path, OP, PRE_LN, "--metric", "kurtosis", "--layer", "2", "--json").stdout)
    assert {row["layer"] for row in rows} == {"2"}
    steps = [row["step"] for row in rows]
    assert (steps[0], steps[-1]) == (0, 5000)
    assert steps == sorted(set(steps))


def test_a_figure_is_compared_at_two_scales(tmp_path: Path) -> None:
    rows = json.loads(ofe(tmp_path, "fig2", "-s", "laptop", "-s", "smoke", "--json").stdout)
    assert rows[0]["claim"] == "c1"
    assert rows[0]["smoke"]["verdict"] == "not measured"
    assert rows[0]["laptop"]["measured"] is not None
    assert "laptop: " in ofe(tmp_path, "fig2", "-s", "laptop", "-s", "smoke").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([OP], "name two runs, or one figure and two scales"),
        (["fig2", "-s", "laptop"], "name two runs, or one figure and two scales"),
        (["fig2", "-s", "laptop", "-s", "huge"], "there is no scale huge"),
        ([OP, "nothing"], "no run nothing"),
        ([OP, PRE_LN, "--metric", "kurtosiss"], "no trace records kurtosiss\n\nhint: did you mean kurtosis?"),
        ([OP, PRE_LN, "--metric", "kurtosis", "--layer", "9"], "recorded kurtosis in layer 9"),
    ],
)
def test_wrong_usage_is_one_sentence(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = ofe(tmp_path, *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stdout == ""
