"""A figure of measurements: its runs' parents are planned, trained once, keep their weights, and are shared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from reproduce.cli.app import app
from tests.cli.conftest import _environment
from tests.cli.conftest import collection as collection

Ofe = Callable[..., Result]

SNAPSHOTS = """\
id: fig2
v1: Figure 2
v2: null
title: The same run, measured afterwards
kind: training
section: "1"
setting: toy
runs: [{name: toy-ln, measured: {at: [0, 0.25, 1]}}]
plot: {kind: lines, y: [{metric: kurtosis}], layers: [2]}
claims:
  - id: p1
    says: Kurtosis is at least one
    left: {metric: kurtosis, run: toy-ln, layer: 2, over: peak}
    cmp: ge
    right: 1
    source: Eq 1
    basis: project
"""


@pytest.fixture
def two(collection: Path, tmp_path: Path) -> Ofe:
    """The command line on a collection with a figure of a training and one of its snapshots."""
    folder = tmp_path / "experiments"
    shutil.copytree(collection, folder)
    (folder / "fig2.yaml").write_text(SNAPSHOTS)
    home = tmp_path / "home"

    def call(*arguments: str) -> Result:

        result = CliRunner().invoke(app, list(arguments), env=_environment(home, folder))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def planned(ofe: Ofe, *ids: str) -> dict[str, dict[str, object]]:
    return {row["slug"]: row for row in json.loads(ofe("plan", *ids, "--json").stdout)["runs"]}


CHILDREN = [f"toy-ln-laptop-s0-at-{step}" for step in (0, 5, 20)]


def test_a_figure_of_measurements_from_plan_to_verdict(two: Ofe) -> None:
    first = planned(two, "fig2")
    assert list(first) == ["toy-ln-laptop-s0", *CHILDREN], "the parent comes before what starts from it"
    assert [row["kind"] for row in first.values()] == ["train", "measure", "measure", "measure"]
    assert {row["state"] for row in first.values()} == {"missing"}
    assert first[CHILDREN[0]]["reason"] == "never measured here"
    assert 0 < first[CHILDREN[0]]["flops"] < first["toy-ln-laptop-s0"]["flops"]

    done = two("reproduce", "fig2")
    assert done.exit_code == 0, done.stderr
    assert "1/1 reproduced" in done.stdout
    assert list(planned(two, "fig2")) == CHILDREN, "nothing starts from the parent any more"
    assert {row["state"] for row in planned(two, "fig2").values()} == {"sealed"}
    assert "nothing to train: 3 runs sealed" in two("reproduce", "fig2").stderr
    assert "3 trained" in two("list").stdout
    # The training is shared with the figure that shows its own trace.
    assert planned(two, "fig1")["toy-ln-laptop-s0"]["state"] == "sealed"
    assert "nothing to train" in two("reproduce", "fig1").stderr


def test_a_parent_sealed_without_weights_is_said_to_be_trained_again(two: Ofe) -> None:
    assert two("reproduce", "fig1").exit_code == 0
    both = planned(two, "fig1", "fig2")
    assert both["toy-ln-laptop-s0"]["state"] == "missing"
    assert both["toy-ln-laptop-s0"]["reason"] == "sealed without its weights, which are wanted: it is trained again"
    assert both[CHILDREN[0]]["reason"] == "toy-ln-laptop-s0 was sealed without its weights: it is trained again first"
    assert sorted(both["toy-ln-laptop-s0"]["figures"]) == ["fig1", "fig2"]
    done = two("reproduce", "fig1", "fig2", "--jobs", "2")
    assert done.exit_code == 0, done.stderr
    assert "4 runs to train" in done.stderr
    assert {row["state"] for row in planned(two, "fig1", "fig2").values()} == {"sealed"}
    assert two("plan", "fig1", "fig2", "--check").exit_code == 0


def test_keeping_weights_is_planned(two: Ofe) -> None:
    assert two("reproduce", "fig1").exit_code == 0
    assert two("plan", "fig1", "--check").exit_code == 0
    assert two("plan", "fig1", "--check", "--keep-weights").exit_code == 3
    plain, keeping = (
        json.loads(two("plan", "fig1", "--seeds", "2", "--json", *more).stdout)["total"]["disk_bytes"]
        for more in ((), ("--keep-weights",))
    )
    assert keeping > plain
    assert two("reproduce", "fig1", "--keep-weights").exit_code == 0
    assert two("plan", "fig1", "--check", "--keep-weights").exit_code == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("{at: []}", "expected at least 1 entry"),
        ("{at: [1.5]}", "expected a number of at most 1"),
        ("{at: [1], point: middle}", "expected residual, attention-input or mlp-input"),
        ("{steps: [1]}", "unknown key"),
    ],
)
def test_a_mistake_in_what_is_measured_is_named_at_its_place(two: Ofe, tmp_path: Path, change: str, says: str) -> None:
    (tmp_path / "experiments" / "fig2.yaml").write_text(SNAPSHOTS.replace("{at: [0, 0.25, 1]}", change))
    result = two("plan", "fig2")
    assert result.exit_code == 2
    assert says in result.stderr
    assert "runs[0].measured" in result.stderr
