"""What users bring: specs, settings, runs and traces of their own, from the first file to the picture."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Ofe = Callable[..., Result]
Process = Callable[..., subprocess.CompletedProcess[str]]
Reproduced = tuple[Path, subprocess.CompletedProcess[str]]


def test_a_new_user_copies_a_figure_changes_a_line_and_reproduces_it(
    ofe: Ofe, python: Process, tmp_path: Path, collection: Path
) -> None:
    file, home = tmp_path / "mine.yaml", tmp_path / "home"
    made = ofe("new", str(file), "--from", "fig1")
    assert (made.exit_code, made.stdout) == (0, f"{file}\n")
    shipped = (collection / "settings" / "toy.yaml").read_text()
    recipe = shipped.replace("id: toy", "id: recipe").replace("paper_data: [codeparrot]\n", "").partition("sources:")[0]
    scales = "scales:\n  laptop: {because: small, steps: 15}\nruns:\n  - {name: toy-ln, label: Pre-LN}\n"
    (tmp_path / "recipe.yaml").write_text(recipe + scales)
    file.write_text(file.read_text().replace("setting: toy", "setting: recipe.yaml").replace(
        "\nruns:\n", "\nruns:\n  - {name: fast, label: fast, optimizer: {lr: 0.01}}\n"))  # fmt: skip
    done = python(home, "-m", "reproduce", "reproduce", str(file))
    assert done.returncode == 0, done.stderr
    assert (home / "figures" / "laptop" / "mine.png").is_file()
    assert "mine at laptop scale, folder" in done.stdout
    assert "substitute" not in done.stdout
    plan = json.loads(ofe("plan", str(file), "--json", home=home).stdout)
    assert [(run["name"], run["state"]) for run in plan["runs"]] == [("fast", "sealed"), ("toy-ln", "sealed")]


def test_new_does_not_overwrite_and_wants_yaml(ofe: Ofe, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("mine")
    for name, message in ((file, "exists already"), (tmp_path / "mine", "does not end in .yaml"),
                          (tmp_path / "a b.yaml", "cannot be the id")):  # fmt: skip
        result = ofe("new", str(name), "--from", "fig1")
        assert result.exit_code == 2
        assert message in result.stderr
    assert file.read_text() == "mine"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A trace from elsewhere, in the wide form."""
    path = tmp_path / "trace.csv"
    path.write_text("step,layer,kurtosis,mood\n0,2,1.2,1\n10,2,9,2\n")
    return path


def test_a_run_and_a_trace_from_elsewhere_are_drawn_into_a_figure(
    ofe: Ofe, reproduced: Reproduced, trace: Path, tmp_path: Path
) -> None:
    plain = ofe("plot", "fig1", "--format", "svg", "--out", str(tmp_path / "a"), home=reproduced[0])
    assert plain.exit_code == 0
    options = ["--overlay", "again=toy-ln-laptop-s0", "--add", f"theirs={trace}"]
    result = ofe("plot", "fig1", *options, "--format", "svg", "--out", str(tmp_path / "b"), home=reproduced[0])
    assert result.exit_code == 0, result.stderr
    assert "mood is no metric that ofe knows and is left out" in result.stderr
    before, after = ((tmp_path / name / "fig1.svg").read_text() for name in "ab")
    for label in ("again", "theirs"):
        assert f"<!-- {label} -->" in after
        assert f"<!-- {label} -->" not in before
    records = [json.loads((tmp_path / name / "fig1.json").read_text()) for name in "ab"]
    assert records[0]["verdicts"] == records[1]["verdicts"]


def test_such_a_figure_has_a_folder_of_its_own(ofe: Ofe, reproduced: Reproduced, trace: Path) -> None:
    usual = reproduced[0] / "figures" / "laptop" / "fig1.png"
    before = usual.read_bytes()
    drawn = ofe("plot", "fig1", "--overlay", "toy-ln-laptop-s0", "--style", "talk", home=reproduced[0])
    assert "laptop,style=talk,with=" in drawn.stdout
    assert usual.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--overlay", "nothing"], "no run nothing"),
        (["--overlay", "=toy-ln-laptop-s0"], "gives no label before ="),
        (["--add", "trace.csv"], "does not name a label and a file"),
        (["--add", "x=/nowhere.csv"], "cannot read /nowhere.csv"),
        (["--overlay", "toy-ln-laptop-s0", "--overlay", "again=toy-ln-laptop-s0"], "--overlay names toy-ln-laptop-s0-"),
        (["--layers", "two"], "there is no layer two"),
        (["--layers", "9"], "fig1 has no layer 9 at laptop scale"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(
    ofe: Ofe, reproduced: Reproduced, options: list[str], message: str
) -> None:
    result = ofe("plot", "fig1", *options, home=reproduced[0])
    assert result.exit_code == 2
    assert message in result.stderr


def test_two_traces_from_elsewhere_need_two_labels(
    ofe: Ofe, reproduced: Reproduced, trace: Path, tmp_path: Path
) -> None:
    (tmp_path / "b").mkdir()
    other = shutil.copy(trace, tmp_path / "b" / trace.name)
    refused = ofe("plot", "fig1", "--add", f"x={trace}", "--add", f"x={other}", home=reproduced[0])
    assert refused.exit_code == 2
    assert "--add has two traces with the label x" in refused.stderr


def test_values_of_a_trace_that_are_not_drawn_are_told(ofe: Ofe, reproduced: Reproduced, tmp_path: Path) -> None:
    trace = tmp_path / "seeds.csv"
    trace.write_text(",seed,step,layer,kurtosis\n0,0,0,2,7\n1,1,0,2,9\n")
    drawn = ofe("plot", "fig1", "--add", f"x={trace}", "--out", str(tmp_path / "out"), home=reproduced[0])
    assert drawn.exit_code == 0
    assert "a column without a name, seed is no metric" in drawn.stderr
    assert "1 value has a later one of the same step, metric and layer, which is drawn instead" in drawn.stderr


def test_two_figures_of_one_id_are_refused(ofe: Ofe, reproduced: Reproduced, tmp_path: Path) -> None:
    made = [tmp_path / name / "mine.yaml" for name in "ab"]
    for path in made:
        assert ofe("new", str(path), "--from", "fig1", home=reproduced[0]).exit_code == 0
    again = ofe("verify", str(made[0]), str(made[0]), "fig1", home=reproduced[0])
    assert again.exit_code in (0, 1), again.stderr  # the same figure twice is one figure
    made[1].write_text(made[1].read_text().replace("title: ", 'title: "Another" #'))
    refused = ofe("verify", *map(str, made), home=reproduced[0])
    assert refused.exit_code == 2
    assert f"two figures have the id mine: {made[0]} and {made[1]}" in refused.stderr


def test_a_drawing_takes_no_curves(ofe: Ofe, trace: Path) -> None:
    result = ofe("plot", "fig9", "--add", f"x={trace}")
    assert result.exit_code == 2
    assert "fig9 is a diagram" in result.stderr
    assert ofe("plot", "fig9", "--style", "talk").exit_code == 0


def test_the_schema_is_json(ofe: Ofe) -> None:
    assert json.loads(ofe("schema").stdout)["title"] == "Experiment"
    assert json.loads(ofe("schema", "setting").stdout)["title"] == "Setting"


def test_a_trace_goes_where_other_tools_read_it(ofe: Ofe, reproduced: Reproduced, tmp_path: Path) -> None:
    run, home = "toy-ln-laptop-s0", reproduced[0]
    csv = ofe("cache", "trace", run, home=home).stdout
    file = tmp_path / "trace.csv"
    assert ofe("cache", "trace", run, "--out", str(file), home=home).stdout == f"{file}\n"
    elsewhere = tmp_path / "new" / "folder" / "trace.csv"
    assert ofe("cache", "trace", run, "--out", str(elsewhere), home=home).exit_code == 0
    assert file.read_text() == csv
    lines = [json.loads(line) for line in ofe("cache", "trace", run, "--to", "wandb", home=home).stdout.splitlines()]
    assert sum(len(line) - 1 for line in lines) == len(csv.splitlines()) - 1
    assert "probe/kurtosis/2" in lines[0] | lines[1]
    assert ofe("cache", "trace", run, "--to", "tensorboard", home=home).exit_code == 2
    events = tmp_path / "events"
    assert ofe("cache", "trace", run, "--to", "tensorboard", "--out", str(events), home=home).exit_code == 0
    assert list(events.glob(f"{run}-*/events.out.tfevents.*"))
    # What ofe exports, it draws again.
    again = ofe("plot", "fig1", "--add", f"again={file}", "--out", str(tmp_path / "out"), home=home)
    assert again.exit_code == 0, again.stderr


def test_an_overlay_is_never_the_trace_of_another_run(ofe: Ofe, reproduced: Reproduced, tmp_path: Path) -> None:
    """Folders that were copied or renamed have a key that another folder has, or that is not theirs."""
    home = Path(shutil.copytree(reproduced[0], tmp_path / "copied"))
    (run,) = (home / "runs").glob("toy-ln-laptop-s0-*")
    key = run.name.rpartition("-")[2]
    (shutil.copytree(run, run.with_name(f"backup-{key}")) / "SHA256SUMS").unlink()
    assert ofe("plot", "fig1", "--overlay", f"again={key}", "--out", str(tmp_path / "a"), home=home).exit_code == 0
    renamed = run.rename(run.with_name(f"other-{'0' * 16}"))
    refused = ofe("plot", "fig1", "--overlay", "other", "--out", str(tmp_path / "b"), home=home)
    assert refused.exit_code == 1
    assert f"describes another run than {renamed.name[-16:]}" in refused.stderr
