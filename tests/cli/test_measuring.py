"""measure, and what `cache` reads of a run: its trace, its moments, its weights."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from reproduce.store.runs import RunFolder

Ofe = Callable[..., Result]
Reproduced = tuple[Path, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def own(reproduced: Reproduced, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the home in which the figure has been reproduced."""
    return Path(shutil.copytree(reproduced[0], tmp_path_factory.mktemp("copy") / "own"))


def trained(home: Path) -> RunFolder:
    (path,) = (home / "runs").glob("toy-ln-laptop-s0-????????????????")
    return RunFolder(path)


def test_a_run_without_weights_is_trained_to_keep_them_and_measured_as_it_was_probed(ofe: Ofe, own: Path) -> None:
    before = trained(own).read_trace()
    first = ofe("measure", "toy-ln-laptop-s0", "--step", "20", "--step", "5", "--json", home=own)
    assert first.exit_code == 0, first.stderr
    assert "has not kept its weights of step 5, 20: it is trained to keep them" in first.stderr
    readings = json.loads(first.stdout)
    assert [list(reading) for reading in readings] == 2 * [
        [*("model", "revision", "tokens", "skip_first", "layers", "neurons", "int8", "key"),
         *("step", "examples", "same_trace")]
    ]  # fmt: skip
    assert [reading["step"] for reading in readings] == [5, 20]
    for reading in readings:
        assert [layer["layer"] for layer in reading["layers"]] == ["1", "2", "unembed"]
        rows = before[(before.split == "probe") & (before.step == reading["step"]) & (before.metric == "kurtosis")]
        ours = {layer["layer"]: layer["all"]["kurtosis"] for layer in reading["layers"]}
        assert ours == dict(zip(rows.layer, rows.value, strict=True))
        assert all(layer["skipped"]["kurtosis"] != layer["all"]["kurtosis"] for layer in reading["layers"])
        assert (reading["tokens"], reading["skip_first"], reading["revision"]) == (2 * 16, 1, None)
    assert trained(own).read_trace().equals(before)

    again = ofe("measure", "toy-ln-laptop-s0", "--step", "20", "--step", "5", "--json", home=own)
    assert (again.stdout, again.stderr) == (first.stdout, ""), "it is cached"
    table = ofe("measure", trained(own).key, home=own)
    assert table.stdout.startswith("toy-ln-laptop-s0 at step 20, measured on 2 held-out examples")
    assert "kurtosis" in table.stdout


def test_a_run_is_measured_on_a_text_of_ones_own(ofe: Ofe, own: Path, tmp_path: Path) -> None:
    text = tmp_path / "words.txt"
    text.write_text("line 3 of 2: value = 9 and more words\n" * 50)
    shown = ofe("measure", "toy-ln-laptop-s0", "--text", str(text), "--tokens", "64", "--json", home=own)
    assert shown.exit_code == 0, shown.stderr
    (reading,) = json.loads(shown.stdout)
    assert (reading["model"], reading["tokens"], reading["step"]) == ("toy-ln-laptop-s0", 64, 20)
    assert [layer["layer"] for layer in reading["layers"]] == ["1", "2", "unembed"]
    assert reading["neurons"][0]["tokens"][0]["text"] in text.read_text()
    rows = {row["slug"] for row in json.loads(ofe("status", "--json", home=own).stdout)}
    assert "toy-ln-laptop-s0-at-20-on-file" in rows


def test_a_run_is_exported_and_measured_as_a_folder(ofe: Ofe, own: Path, tmp_path: Path) -> None:
    done = ofe("export", "toy-ln-laptop-s0", "--to", str(tmp_path / "out"), home=own)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    again = ofe("export", "toy-ln-laptop-s0", "--to", str(tmp_path / "out"), home=own)
    assert (again.exit_code, "exists and is not an empty folder" in again.stderr) == (2, True)
    late = ofe("export", "toy-ln-laptop-s0", "--step", "21", "--to", str(tmp_path / "late"), home=own)
    assert (late.exit_code, "ends at step 20, before step 21" in late.stderr) == (2, True)


def test_measurements_are_runs_like_others(ofe: Ofe, own: Path) -> None:
    ofe("measure", "toy-ln-laptop-s0", home=own)
    rows = {row["slug"]: row for row in json.loads(ofe("status", "--json", home=own).stdout)}
    row = rows["toy-ln-laptop-s0-at-20"]
    assert (row["state"], row["step"], row["steps"], row["error"]) == ("sealed", 20, 20, None)
    assert "toy-ln-laptop-s0-at-20" in ofe("cache", "list", home=own).stdout
    assert ofe("cache", "verify", home=own).exit_code == 0
    refused = ofe("measure", "toy-ln-laptop-s0-at-20", home=own)
    assert (refused.exit_code, "is a measurement, not a training" in refused.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nope",), "there is no model nope: no run, no folder, no file"),
        (("toy-ln-laptop-s0", "--step", "21"), "ends at step 20, before step 21"),
        (("toy-ln-laptop-s0", "--skip-first", "16"), "--skip-first 16 leaves nothing of sequences of 16 tokens"),
        (("toy-ln-laptop-s0", "--examples", "100000"), "measures 100,000 examples, and"),
    ],
)
def test_what_cannot_be_measured_is_bad_usage(ofe: Ofe, own: Path, arguments: tuple[str, ...], says: str) -> None:
    result = ofe("measure", *arguments, home=own)
    assert result.exit_code == 2
    assert says in result.stderr
    assert "hint:" in result.stderr


def test_the_trace_of_a_run_is_csv(ofe: Ofe, reproduced: Reproduced) -> None:
    for follow in ((), ("--follow",)):
        text = ofe("cache", "trace", "toy-ln-laptop-s0", *follow, home=reproduced[0]).stdout
        rows = list(csv.reader(io.StringIO(text)))
        assert rows[0] == ["step", "split", "metric", "layer", "value"]
        assert len(rows) - 1 == len(trained(reproduced[0]).read_trace())


def test_moments_give_the_kurtosis_that_was_recorded(ofe: Ofe, reproduced: Reproduced) -> None:
    rows = json.loads(ofe("cache", "moments", "toy-ln-laptop-s0", "--json", home=reproduced[0]).stdout)
    trace = trained(reproduced[0]).read_trace()
    recorded = trace[(trace.metric == "kurtosis") & (trace.step == 20)].set_index("layer").value
    ours = {row["layer"]: row["eq1"] for row in rows if row["step"] == 20}
    assert ours == pytest.approx(recorded.to_dict(), rel=1e-5)
    variance = json.loads(
        ofe("cache", "moments", "toy-ln-laptop-s0", "--form", "variance", "--json", home=reproduced[0]).stdout
    )
    assert [row["variance"] for row in variance] == pytest.approx([row["eq1"] - 1 for row in rows])
    assert "largest neuron" in ofe("cache", "moments", "toy-ln-laptop-s0", home=reproduced[0]).stdout


def test_a_slug_that_stands_for_several_runs_is_refused_where_one_is_asked_for(
    ofe: Ofe, own: Path, tmp_path: Path
) -> None:
    home = Path(shutil.copytree(own, tmp_path / "home"))
    folder = trained(home)
    shutil.copytree(folder.path, folder.path.with_name("toy-ln-laptop-s0-0123456789abcdef"))
    for command in (("measure",), ("cache", "moments"), ("cache", "trace")):
        result = ofe(*command, "toy-ln-laptop-s0", home=home)
        assert (result.exit_code, result.stdout) == (2, ""), command
        assert "stands for several run folders" in result.stderr
        renamed = ofe(*command, "0123456789abcdef", home=home)
        assert renamed.exit_code == 1, command
        assert "describes another run" in renamed.stderr


def test_a_damaged_list_of_weights_stops_no_other_run(ofe: Ofe, own: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(own, tmp_path / "home"))
    folder = trained(home)
    (folder.path / "weights.json").write_text("{bad")
    assert ofe("cache", "list", home=home).exit_code == 0
    pruned = ofe("cache", "prune", "--weights", "--yes", home=home)
    assert pruned.exit_code == 0
    assert f"rm {folder.path / 'weights.json'}" in pruned.stderr
    plan = json.loads(ofe("plan", "fig1", "--json", home=home).stdout)
    assert plan["runs"][0]["state"] == "sealed"


def test_a_training_that_was_repeated_for_weights_can_be_given_up(ofe: Ofe, own: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(own, tmp_path / "home"))
    folder = trained(home)
    folder.keep_weights([7])
    (folder.path / "trace.jsonl").write_text("")
    assert folder.state == "resumable"
    pruned = ofe("cache", "prune", "--yes", home=home)
    assert f"removed the unfinished training in {folder.path.name}" in pruned.stdout
    assert folder.state == "sealed"
    assert ofe("plan", "fig1", "--check", home=home).exit_code == 0


def test_weights_are_kept_when_asked_for_and_pruned_alone(ofe: Ofe, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = ofe("reproduce", "fig1", "--keep-weights", home=home)
    assert done.exit_code == 0, done.stderr
    folder = trained(home)
    assert folder.weights() == [20]
    assert ofe("cache", "prune", "--weights", home=home, input="n\n").exit_code == 1
    assert folder.weights() == [20]
    assert "of weights of toy-ln-laptop-s0" in ofe("cache", "prune", "--weights", "--yes", home=home).stdout
    assert (folder.weights(), folder.state) == ([], "sealed")
    assert "no sealed run keeps weights" in ofe("cache", "prune", "--weights", home=home).stderr
    again = ofe("reproduce", "fig1", "--keep-weights", home=home)
    assert "1 run to train" in again.stderr, "the sealed run has lost its weights"
    assert folder.weights() == [20]


def test_a_sealed_run_is_promoted_to_a_reference(
    ofe: Ofe, reproduced: Reproduced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reproduce.store.reference.reference_root", lambda: tmp_path / "figures")
    refused = ofe("cache", "promote", "toy-ln-laptop-s0", home=reproduced[0])
    assert refused.exit_code == 1
    assert "rests on a folder of this machine" in refused.stderr
    assert not (tmp_path / "figures").exists()


def test_a_smoke_run_is_no_reference(ofe: Ofe, reproduced: Reproduced, tmp_path: Path) -> None:
    home = Path(shutil.copytree(reproduced[0], tmp_path / "home"))
    run_yaml = trained(home).path / "run.yaml"
    run_yaml.write_text(run_yaml.read_text().replace("scale: laptop", "scale: smoke"))
    refused = ofe("cache", "promote", trained(home).key, home=home)
    assert refused.exit_code == 2
    assert "smoke scale, which tests the plumbing and is never judged" in refused.stderr


def test_a_damaged_run_has_a_row_and_the_others_theirs(ofe: Ofe, own: Path) -> None:
    bad = own / "runs" / "broken-0123456789abcdef"
    bad.mkdir()
    (bad / "SHA256SUMS").touch()
    (own / "runs" / "empty-0123456789abcde0").mkdir()
    (own / "runs" / "empty-0123456789abcde0" / "progress.json").touch()
    try:
        rows = {row["slug"]: row for row in json.loads(ofe("status", "--json", home=own).stdout)}
        assert "cannot be read: its run.yaml is missing" in rows["broken"]["error"]
        assert (rows["empty"]["state"], rows["empty"]["error"]) == ("new", None)
        assert rows["toy-ln-laptop-s0"]["state"] == "sealed"
        for command in (("list",), ("cache", "list"), ("doctor",), ("plan", "fig1")):
            assert ofe(*command, home=own).exit_code in (0, 1), command
    finally:
        shutil.rmtree(bad)
        shutil.rmtree(own / "runs" / "empty-0123456789abcde0")
