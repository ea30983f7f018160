"""list, show, plan, plot, verify and status: JSON shapes, exit codes, and what people read."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from reproduce.cli import drawing
from reproduce.cli.app import app
from reproduce.store import reference
from reproduce.store.runs import RunFolder

Ofe = Callable[..., Result]
Process = Callable[..., subprocess.CompletedProcess[str]]
Reproduced = tuple[Path, subprocess.CompletedProcess[str]]


def test_list_json_has_the_promised_shape(ofe: Ofe) -> None:
    rows = json.loads(ofe("list", "--json").stdout)
    assert [list(row) for row in rows] == 2 * [
        ["id", "v1", "v2", "title", "kind", "setting", "scale", "state", "verdict"]
    ]
    assert rows[0] | {"title": ""} == {
        "id": "fig1",
        "v1": "Figure 1",
        "v2": "Figure 1",
        "title": "",
        "kind": "training",
        "setting": "toy",
        "scale": "laptop",
        "state": "0/1 sealed",
        "verdict": None,
    }
    assert rows[1]["state"] == "no runs"


def test_list_tells_what_is_sealed_and_what_became_of_the_claims(ofe: Ofe, reproduced: Reproduced) -> None:
    row = json.loads(ofe("list", "--json", home=reproduced[0]).stdout)[0]
    assert (row["state"], row["verdict"]) == ("1/1 sealed", "1/2 reproduced, 1 not reproduced")
    told = ofe("list", home=reproduced[0]).stdout
    assert "1 trained" in told
    assert "1 of 2, 1 not" in told
    assert "2 figures and tables at laptop scale, 1 with all traces\nclaims: 1/2 reproduced, 1 not reproduced" in told
    assert json.loads(ofe("list", "--json", "--scale", "smoke", home=reproduced[0]).stdout)[0]["verdict"] is None


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--setting", "TOY"], ["fig1"]),
        (["--setting", "languini"], []),
        (["--state", "trained"], ["fig1"]),
        (["--state", "missing"], []),
        (["--state", "none"], ["fig9"]),
        (["--verdict", "not-reproduced"], ["fig1"]),
        (["--verdict", "reproduced"], ["fig1"]),
        (["--verdict", "direction-only"], []),
    ],
)
def test_list_chooses_by_setting_state_and_verdict(
    ofe: Ofe, reproduced: Reproduced, options: list[str], ids: list[str]
) -> None:
    assert [row["id"] for row in json.loads(ofe("list", *options, "--json", home=reproduced[0]).stdout)] == ids
    told = ofe("list", *options, home=reproduced[0]).stdout
    assert all(f"  {name} " in told for name in ids)
    assert ids or told == "no figure or table is like that\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["show", "fig5"],
        ["show", "fig5", "--full"],
        ["plan", "fig2", "fig5"],
        ["plan", "fig4", "--scale", "paper"],
        ["verify", "fig5"],
    ],
)
def test_what_people_read_fits_80_columns(arguments: list[str], tmp_path: Path) -> None:
    terminal = {"FORCE_COLOR": "1", "COLUMNS": "80", "TERM": "xterm"}  # rich then writes as to a terminal
    done = CliRunner().invoke(app, arguments, env={"OFE_HOME": str(tmp_path), "OFE_DEVICE": "cpu", **terminal})
    assert "\x1b[" in done.stdout
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", done.output).splitlines()]
    assert len(lines) > 10
    assert [line for line in lines if len(line) > 80] == []
    assert not any("…" in line for line in lines)


def test_columns_says_how_wide_piped_output_is(ofe: Ofe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    wide = ofe("show", "fig1").stdout
    monkeypatch.setenv("COLUMNS", "60")
    narrow = ofe("show", "fig1").stdout
    assert max(map(len, narrow.splitlines())) <= 60 < max(map(len, wide.splitlines()))
    assert narrow.split() == wide.split()
    for nothing in ("0", "00", "x"):
        monkeypatch.setenv("COLUMNS", nothing)
        assert ofe("show", "fig1").stdout == wide
    for unbelievable in ("1", "7"):
        monkeypatch.setenv("COLUMNS", unbelievable)
        assert 30 < max(map(len, ofe("show", "fig1").stdout.splitlines())) < 60


def test_list_names_the_scale_a_setting_lacks(ofe: Ofe) -> None:
    assert json.loads(ofe("list", "--json", "--scale", "paper").stdout)[0]["state"] == "not at paper scale"


def test_show_tells_claims_runs_and_hyperparameters_with_their_source(ofe: Ofe) -> None:
    about = json.loads(ofe("show", "fig1", "--json").stdout)
    assert [claim["id"] for claim in about["claims"]] == ["c1", "c2"]
    assert about["runs"][0]["state"] == "missing"
    steps = next(row for row in about["hyperparameters"] if row["name"] == "steps")
    assert (steps["paper"], steps["source"], steps["laptop"]) == (10, "inferred", 20)
    assert "Kurtosis is at least one" in ofe("show", "fig1").stdout
    assert "inferred" not in ofe("show", "fig1").stdout
    text = ofe("show", "fig1", "--full").stdout
    assert "Kurtosis is at least one" in text
    assert "inferred" in text


def test_show_leads_with_verdicts_the_picture_and_the_cost(ofe: Ofe, reproduced: Reproduced) -> None:
    told = " ".join(ofe("show", "fig1", home=reproduced[0]).stdout.split())
    assert "reproduced c1 Kurtosis is at least one not reproduced c2 Kurtosis is above a million" in told
    assert f"picture {reproduced[0] / 'figures' / 'laptop' / 'fig1.png'} " in told
    assert "runs 1 run (Pre-LN): 1 trained here cost 0 core-minutes on " in told
    assert "as the traces recorded training nothing is left to train" in told
    about = json.loads(ofe("show", "fig1", "--json", home=reproduced[0]).stdout)
    assert [verdict["verdict"] for verdict in about["verdicts"]] == ["reproduced", "not reproduced"]
    fresh = " ".join(ofe("show", "fig1").stdout.split())
    assert "not judged yet c1 Kurtosis" in fresh
    assert "in all not judged yet, since no run has a trace picture not drawn yet runs" in fresh
    assert "1 run (Pre-LN): 1 not trained training about " in fresh


def test_show_says_where_a_verdict_rests_on_a_bound_for_the_scale_and_why_there_is_none(
    ofe: Ofe, reproduced: Reproduced, own_bound: str
) -> None:
    before = " ".join(ofe("show", own_bound, home=reproduced[0]).stdout.split())
    assert f"in all not judged yet: `ofe verify {own_bound}` judges the traces at hand" in before
    assert ofe("plot", own_bound, home=reproduced[0]).exit_code == 0
    after = " ".join(ofe("show", own_bound, home=reproduced[0]).stdout.split())
    assert "reproduced c1 Kurtosis is at least one decided by a bound for this scale not reproduced c2" in after
    absent = Path(own_bound).with_name("absent.yaml")
    two_runs = Path(own_bound).read_text().replace("id: bounded", "id: absent").replace("[toy-ln]", NEVER)
    absent.write_text(two_runs + MORE)
    assert ofe("plot", str(absent), home=reproduced[0]).exit_code == 0
    told = " ".join(ofe("show", str(absent), home=reproduced[0]).stdout.split())
    assert "not measured c3 Kurtosis of a run that was never trained no trace of never" in told


MINE = """\
runs:
  - toy-ln
  - name: mine
    label: Mine
    steps: 7
    at: &nine {laptop: {steps: 9, batch_size: 3, because: nine steps show it}, smoke: {steps: 2, because: two will do}}
    source: stated-v1
  - {name: mine-too, label: Mine too, optimizer: {lr: 2e-3}, at: *nine}
"""
NEVER = "[toy-ln, {name: never, label: Never, optimizer: {lr: 2e-3}}]"
MORE = """\
  - id: c3
    says: Kurtosis of a run that was never trained
    left: {metric: kurtosis, run: never, layer: 2, over: peak}
    cmp: ge
    right: 1
    source: nowhere
    basis: project
"""
REMARKS = """\
provenance: {layer: stated-v2 (block 2), y_scale: inferred}
notes: A toy of two layers.
"""


@pytest.fixture
def mine(collection: Path, tmp_path: Path) -> str:
    """The small figure with runs of its own, as a file of the user's."""
    file = tmp_path / "mine.yaml"
    file.write_text((collection / "fig1.yaml").read_text().replace("runs: [toy-ln]\n", MINE) + REMARKS)
    return str(file)


@pytest.fixture
def own_bound(collection: Path, tmp_path: Path) -> str:
    """The small figure with a bound at laptop scale, as a file of the user's."""
    file = tmp_path / "bounded.yaml"
    bound = "    right: 1\n    at: {laptop: {right: 0.5, because: a toy is small}}\n"
    text = (collection / "fig1.yaml").read_text().replace("id: fig1", "id: bounded")
    file.write_text(text.replace("    right: 1\n", bound))
    return str(file)


def test_show_tells_why_a_scale_changes_a_run(ofe: Ofe, mine: str) -> None:
    about = json.loads(ofe("show", mine, "--json").stdout)
    assert [run["because"] for run in about["runs"]] == [None, "nine steps show it", "nine steps show it"]
    own = {row["name"]: row for row in about["hyperparameters"] if row["run"] == "mine"}
    assert (own["steps"]["paper"], own["steps"]["source"], own["steps"]["laptop"]) == (7, "stated-v1", 9)
    assert (own["batch_size"]["paper"], own["batch_size"]["source"], own["batch_size"]["laptop"]) == (None, None, 3)
    assert "\nmine, mine-too at laptop scale: nine steps show it\n" in ofe("show", mine, "--full").stdout
    assert "\nmine, mine-too at smoke scale: two will do\n" in ofe("show", mine, "--full", "--scale", "smoke").stdout


def test_show_tells_where_the_figures_choices_come_from(ofe: Ofe, mine: str) -> None:
    about = json.loads(ofe("show", mine, "--json").stdout)
    assert about["provenance"] == {"layer": "stated-v2 (block 2)", "y_scale": "inferred"}
    assert about["notes"] == "A toy of two layers."
    text = ofe("show", mine, "--full").stdout
    told = [" ".join(line.split()) for line in text.splitlines()]
    where = told.index("Where the figure's own choices come from")
    assert told[where + 1 : where + 3] == ["layer stated-v2 (block 2)", "y_scale inferred"]
    assert "A toy of two layers." in told
    assert json.loads(ofe("show", "fig9", "--json").stdout)["provenance"] == {}
    assert "choices come from" not in ofe("show", "fig9", "--full").stdout


def test_show_json_has_the_promised_shape(ofe: Ofe) -> None:
    about = json.loads(ofe("show", "fig1", "--json").stdout)
    assert list(about) == [
        *["id", "v1", "v2", "title", "kind", "section", "setting", "scale", "because", "cautions", "setting_notes"],
        *["claims", "runs", "cost", "measured_cost", "machines"],
        *["needs", "hyperparameters", "provenance", "notes", "finding", "picture", "verdicts"],
    ]
    assert list(about["runs"][0]) == ["name", "label", "seed", "slug", "key", "state", "because"]
    assert list(about["hyperparameters"][0]) == ["setting", "run", "name", "paper", "source", "note", "laptop"]


def test_plan_json_has_the_promised_shape_and_check_asks_for_work(ofe: Ofe) -> None:
    result = ofe("plan", "fig1", "--json", "--check")
    assert result.exit_code == 3
    plan = json.loads(result.stdout)
    assert {"key", "slug", "state", "reason", "params", "tokens", "flops", "seconds"} <= set(plan["runs"][0])
    assert plan["total"]["misses"] == 1


def test_a_plan_of_guesses_says_how_to_time_the_machine_in_words_that_can_be_typed(ofe: Ofe, mine: str) -> None:
    spaced = Path(mine).with_name("my figure.yaml")
    spaced.write_text(Path(mine).read_text())
    guess = ofe("plan", str(spaced), "--set", "optimizer.lr=0.5").stderr
    assert f"times the machine in some seconds:\n      ofe plan '{spaced}' --set optimizer.lr=0.5 --measure\n" in guess


def test_a_plan_says_how_batches_fit_that_do_not(ofe: Ofe, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "OFE_MICRO_BATCH" not in ofe("plan", "fig1").stderr
    assert "OFE_MICRO_BATCH=1" in ofe("plan", "fig1", "--set", "batch_size=100000000").stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.path=/nowhere"], "the folder /nowhere does not exist"),
        (["data.path=null"], "the source folder needs data.path"),
    ],
)
def test_a_plan_refuses_data_of_the_users_that_are_not_there(ofe: Ofe, changes: list[str], message: str) -> None:
    options = [word for change in changes for word in ("--set", change)]
    result = ofe("plan", "fig1", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert ofe("plan", "fig1", *options, "--device", "h100").exit_code == 0, "they may lie on another machine"


def test_a_plan_says_what_the_traces_at_hand_took(ofe: Ofe, reproduced: Reproduced) -> None:
    assert "the 1 trace at hand took 0 core-minutes on " in ofe("plan", "fig1", home=reproduced[0]).stdout
    assert "at hand took" not in ofe("plan", "fig1").stdout


def test_a_plan_of_several_figures_tells_what_they_share(tmp_path: Path) -> None:
    words = ["plan", "fig2", "fig14", "--scale", "smoke", "--seeds", "1"]
    total = CliRunner().invoke(app, words, env={"OFE_HOME": str(tmp_path), "OFE_DEVICE": "cpu"}).stdout
    assert "5 of them are shared: 10 uses in 2 figures and tables, each run trained once" in total


def test_plan_check_is_content_when_all_is_sealed(ofe: Ofe, reproduced: Reproduced) -> None:
    result = ofe("plan", "fig1", "--check", home=reproduced[0])
    assert result.exit_code == 0
    assert "1 sealed, 0 to train" in result.stdout


def test_plan_counts_seeds_and_overrides_as_other_runs(ofe: Ofe, reproduced: Reproduced) -> None:
    plan = json.loads(ofe("plan", "fig1", "--seeds", "2", "--json", home=reproduced[0]).stdout)
    assert [run["state"] for run in plan["runs"]] == ["sealed", "missing"]
    plan = json.loads(ofe("plan", "fig1", "--set", "optimizer.lr=0.01", "--json", home=reproduced[0]).stdout)
    assert [run["state"] for run in plan["runs"]] == ["missing"]


def test_verify_json_has_the_promised_shape_and_exits_with_1_for_a_claim_that_fails(
    ofe: Ofe, reproduced: Reproduced
) -> None:
    result = ofe("verify", "fig1", "--json", home=reproduced[0])
    assert result.exit_code == 1
    first, second = json.loads(result.stdout)
    promised = ["id", "claim", "says", "scale", "data", "verdict", "measured", "bound", "published"]
    assert list(first)[: len(promised)] == promised
    assert [first["verdict"], second["verdict"]] == ["reproduced", "not reproduced"]


def test_a_bound_of_the_scale_is_shown_with_its_reason(ofe: Ofe, reproduced: Reproduced, own_bound: str) -> None:
    told = ofe("verify", own_bound, home=reproduced[0]).stdout
    assert "1/2 reproduced (1 by a bound for this scale), 1 not reproduced" in told
    assert "bound for laptop scale: peak kurtosis in layer 2 of toy-ln >= 0.5 (a toy is small)" in " ".join(
        told.split()
    )
    first, second = json.loads(ofe("verify", own_bound, "--json", home=reproduced[0]).stdout)
    assert (first["because"], second["because"]) == ("a toy is small", "")
    assert "bound for laptop scale" not in ofe("verify", "fig1", home=reproduced[0]).stdout


def test_verify_without_traces_says_that_nothing_was_measured(ofe: Ofe) -> None:
    result = ofe("verify", "all", "--from-cache")
    assert result.exit_code == 3
    assert "0/2 reproduced, 2 not measured" in result.stdout
    assert "no trace of toy-ln" in result.stdout


@pytest.mark.parametrize("formats", [["png"], ["svg", "pdf"]])
def test_plot_draws_from_the_cache_and_prints_the_paths(
    ofe: Ofe, reproduced: Reproduced, tmp_path: Path, formats: list[str]
) -> None:
    result = ofe("plot", "fig1", "--format", ",".join(formats), "--out", str(tmp_path), home=reproduced[0])
    assert result.stdout.split() == [str(tmp_path / f"fig1.{name}") for name in formats]
    assert all((tmp_path / f"fig1.{name}").stat().st_size for name in formats)


@pytest.mark.parametrize(
    "variables",
    [
        {"MPLBACKEND": "module://a_notebook_that_is_not_installed", "MATPLOTLIBRC": "matplotlibrc"},
        {"MPLBACKEND": "no backend at all", "MPLCONFIGDIR": "/proc/nowhere"},
    ],
    ids=["a notebook", "nonsense"],
)
def test_what_a_notebook_sets_for_matplotlib_has_no_say(
    python: Process,
    reproduced: Reproduced,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nsavefig.dpi: 20\nlines.linewidth: 9\n")
    monkeypatch.chdir(tmp_path)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    done = python(reproduced[0], "-m", "reproduce", "plot", "fig1", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    drawn = (reproduced[0] / "figures" / "laptop" / "fig1.png").read_bytes()
    assert (tmp_path / "out" / "fig1.png").read_bytes() == drawn


def test_plot_without_ids_draws_all_that_can_be_drawn(ofe: Ofe, reproduced: Reproduced, tmp_path: Path) -> None:
    result = ofe("plot", "--out", str(tmp_path), home=reproduced[0])
    assert result.stdout.split() == [str(tmp_path / "fig1.png"), str(tmp_path / "fig9.png")]
    nothing = ofe("plot", "--out", str(tmp_path), "--scale", "smoke")
    assert nothing.stdout == "", "a drawing needs no run, and is drawn at the default scale alone"
    assert "ofe reproduce" in nothing.stderr


def test_several_processes_draw_what_one_does(
    ofe: Ofe, reproduced: Reproduced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the error is the same, whichever process meets it."""
    blocked = tmp_path / "blocked"
    (blocked / "fig1.png").mkdir(parents=True)
    monkeypatch.setattr(drawing, "idle_cores", lambda machine: 2)
    told = []
    for name, least in (("alone", 100), ("shared", 1)):
        monkeypatch.setattr(drawing, "FIGURES_OF_A_PROCESS", least)
        result = ofe("plot", "fig1", "fig9", "--out", str(tmp_path / name), home=reproduced[0])
        assert [Path(line).name for line in result.stdout.split()] == ["fig1.png", "fig9.png"]
        refused = ofe("plot", "fig1", "fig9", "--out", str(blocked), home=reproduced[0])
        told.append((refused.exit_code, refused.stderr))
    names = sorted(path.name for path in (tmp_path / "alone").iterdir())
    assert names == ["fig1.json", "fig1.png", "fig9.json", "fig9.png"]
    for name in names:
        assert (tmp_path / "shared" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert told[0] == told[1]
    assert told[0][0] == 1
    assert "fig1.png" in told[0][1]


def test_a_process_that_is_killed_while_it_draws_is_told(
    ofe: Ofe, reproduced: Reproduced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "idle_cores", lambda machine: 2)
    monkeypatch.setattr(drawing, "FIGURES_OF_A_PROCESS", 1)
    monkeypatch.setattr(drawing, "_leave_signals_to_the_command", partial(os._exit, 9))
    result = ofe("plot", "fig1", "fig9", "--out", str(tmp_path), home=reproduced[0])
    assert result.exit_code == 1
    assert "a process that drew figures was killed" in result.stderr


def test_plot_of_a_figure_without_traces_says_how_to_get_them(ofe: Ofe) -> None:
    result = ofe("plot", "fig1", "--seeds", "2", "--set", "optimizer.lr=0.5")
    assert result.exit_code == 3
    assert "ofe reproduce fig1 --scale laptop --seeds 2 --set optimizer.lr=0.5" in result.stderr


def test_hints_name_a_spec_of_one_s_own_as_it_was_typed(ofe: Ofe, mine: str) -> None:
    result = ofe("plot", "fig9", mine, "--set", "optimizer.lr=0.5")
    assert result.stderr.endswith(
        f"\nhint: train its runs first: ofe reproduce {mine} --scale laptop --set optimizer.lr=0.5\n"
    )
    nothing = ofe("plot", "--seeds", "2", "--scale", "smoke")
    assert "`ofe reproduce fig1 --scale smoke --seeds 2` trains those of one" in nothing.stderr
    assert "`ofe reproduce ID --scale smoke`" in ofe("list", "--scale", "smoke").stderr


def test_plot_names_the_runs_that_are_missing(ofe: Ofe, reproduced: Reproduced, tmp_path: Path) -> None:
    result = ofe("plot", "fig1", "--seeds", "2", "--out", str(tmp_path), home=reproduced[0])
    assert result.exit_code == 0
    assert "drawn without toy-ln-laptop-s1" in result.stderr


def test_a_fresh_clone_reads_the_traces_and_verdicts_that_came_with_it(
    ofe: Ofe, reproduced: Reproduced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = tmp_path / "figures"
    (trained,) = (reproduced[0] / "runs").iterdir()
    shutil.copytree(trained, figures / "laptop" / "traces" / trained.name)
    run = RunFolder(trained).read_run_yaml()
    entry = {"folder": trained.name, "key": run["key"], "name": run["name"], "seed": run["seed"]}
    (figures / "laptop" / "traces" / "index.json").write_text(json.dumps({run["recipe"]: entry}))
    monkeypatch.setattr(reference, "shared_folder", lambda name: tmp_path / name)

    assert json.loads(ofe("list", "--json").stdout)[0]["state"] == "0/1 sealed, 1 shipped"
    assert json.loads(ofe("show", "fig1", "--json").stdout)["runs"][0]["state"] == "shipped"
    drawn = ofe("plot", "fig1", "--from-cache", "--out", str(figures / "laptop"))
    assert drawn.stdout.strip() == str(figures / "laptop" / "fig1.png")
    assert ofe("verify", "fig1").exit_code == 1
    assert json.loads(ofe("list", "--json").stdout)[0]["verdict"] == "1/2 reproduced, 1 not reproduced"


def test_status_json_has_the_promised_shape(ofe: Ofe, reproduced: Reproduced) -> None:
    (row,) = json.loads(ofe("status", "--json", home=reproduced[0]).stdout)
    assert list(row) == ["key", "slug", "state", "step", "steps", "started", "updated", "host", "pid", "error"]
    assert (row["slug"], row["state"], row["step"], row["steps"]) == ("toy-ln-laptop-s0", "sealed", 20, 20)


def test_status_of_an_empty_home_is_an_empty_array(ofe: Ofe) -> None:
    assert json.loads(ofe("status", "--json").stdout) == []
    assert ofe("status").stderr.startswith("no run yet: `ofe list` shows the figures")


def test_a_figure_of_ones_own_needs_no_place_in_the_paper(ofe: Ofe, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "id: mine\ntitle: My own\nsetting: toy\nruns: [toy-ln]\n"
        "plot: {kind: lines, y: [{metric: kurtosis}], layers: [2]}\n"
    )
    shown = ofe("show", str(mine))
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.splitlines()[:2] == ["mine: My own", "training"]
    assert json.loads(ofe("plan", str(mine), "--json").stdout)["figures"] == ["mine"]
