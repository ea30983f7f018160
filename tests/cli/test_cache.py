"""cache and data: lists, checks, moves and removals."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Ofe = Callable[..., Result]
Reproduced = tuple[Path, subprocess.CompletedProcess[str]]


@pytest.fixture
def own(reproduced: Reproduced, tmp_path: Path) -> Path:
    """A copy of the home in which the figure has been reproduced."""
    return Path(shutil.copytree(reproduced[0], tmp_path / "own"))


def _run_folder(home: Path) -> Path:
    (folder,) = (home / "runs").iterdir()
    return folder


def test_dir_is_the_home(ofe: Ofe, tmp_path: Path) -> None:
    assert ofe("cache", "dir", home=tmp_path).stdout == f"{tmp_path}\n"


def test_list_json_has_the_promised_shape(ofe: Ofe, reproduced: Reproduced) -> None:
    (row,) = json.loads(ofe("cache", "list", "--json", home=reproduced[0]).stdout)
    assert list(row) == ["key", "slug", "state", "bytes", "path"]
    assert (row["state"], row["path"]) == ("sealed", str(_run_folder(reproduced[0])))


def test_verify_finds_a_changed_byte(ofe: Ofe, own: Path) -> None:
    assert ofe("cache", "verify", home=own).exit_code == 0
    trace = _run_folder(own) / "trace.parquet"
    content = bytearray(trace.read_bytes())
    content[100] ^= 1
    trace.write_bytes(content)
    result = ofe("cache", "verify", home=own)
    assert result.exit_code == 1
    assert "trace.parquet" in result.stderr


def test_an_exported_run_can_be_imported_elsewhere(ofe: Ofe, reproduced: Reproduced, tmp_path: Path) -> None:
    assert ofe("cache", "export", str(tmp_path / "out"), home=reproduced[0]).exit_code == 0
    result = ofe("cache", "import", str(tmp_path / "out"), home=tmp_path / "there")
    assert result.stdout.strip() == str(_run_folder(tmp_path / "there"))
    assert ofe("plan", "fig1", "--check", home=tmp_path / "there").exit_code == 0


def test_importing_a_folder_without_runs_is_an_error(ofe: Ofe, tmp_path: Path) -> None:
    result = ofe("cache", "import", str(tmp_path))
    assert result.exit_code == 1
    assert "holds no sealed run" in result.stderr


def test_an_unknown_key_exits_with_2(ofe: Ofe, reproduced: Reproduced, tmp_path: Path) -> None:
    assert ofe("cache", "export", str(tmp_path), "0123456789abcdef", home=reproduced[0]).exit_code == 2


def test_prune_removes_only_what_is_unfinished_and_only_when_told(ofe: Ofe, own: Path) -> None:
    sealed = _run_folder(own)
    leftover = own / "runs" / "toy-ln-laptop-s1-0123456789abcdef"
    leftover.mkdir()
    (leftover / "trace.jsonl").write_text("")
    assert ofe("cache", "prune", home=own, input="n\n").exit_code == 1
    assert leftover.exists()
    assert ofe("cache", "prune", "--yes", home=own).exit_code == 0
    assert list((own / "runs").iterdir()) == [sealed]
    assert "nothing to remove" in ofe("cache", "prune", home=own).stderr


def test_prune_and_export_act_on_the_folder_that_they_name_though_another_has_its_key(
    ofe: Ofe, own: Path, tmp_path: Path
) -> None:
    sealed = _run_folder(own)
    backup = sealed.with_name(f"backup-{sealed.name.rpartition('-')[2]}")
    shutil.copytree(sealed, backup)
    exported = ofe("cache", "export", str(tmp_path / "out"), "backup", home=own)
    assert [Path(line).name for line in exported.stdout.splitlines()] == [backup.name]
    (backup / "SHA256SUMS").unlink()
    result = ofe("cache", "prune", "--yes", home=own)
    assert result.stdout == f"removed {backup.name}\n"
    assert list((own / "runs").iterdir()) == [sealed]
    assert ofe("cache", "verify", home=own).exit_code == 0


def test_a_damaged_run_does_not_end_the_export_of_others(ofe: Ofe, own: Path, tmp_path: Path) -> None:
    whole = _run_folder(own)
    damaged = Path(shutil.copytree(whole, whole.with_name(f"a-{'0' * 16}")))
    result = ofe("cache", "export", str(tmp_path / "out"), home=own)
    assert result.exit_code == 1
    assert "describes another run" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == [whole.name]
    assert damaged.exists()


def test_an_export_onto_a_file_names_the_folder_and_not_the_cache(ofe: Ofe, own: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = ofe("cache", "export", str(tmp_path / "file"), home=own)
    assert result.exit_code == 1
    assert "OFE_HOME" not in result.stderr


@pytest.mark.parametrize("name", ["v1.2.yaml", "mine.yml"])
def test_the_spec_of_ones_own_in_an_archive_goes_by_its_id(
    ofe: Ofe, own: Path, collection: Path, tmp_path: Path, name: str
) -> None:
    spec, archive = tmp_path / name, tmp_path / "mine.tar"
    spec.write_text((collection / "fig1.yaml").read_text().replace("id: fig1", "id: v1.2"))
    assert ofe("cache", "export", str(spec), "--out", str(archive), home=own).exit_code == 0
    spec.unlink()
    there = ofe("plot", "--from-cache", str(archive), "--out", str(tmp_path / "out"), home=tmp_path / "there")
    assert there.stdout == f"{tmp_path / 'out' / 'v1.2.png'}\n", there.stderr


def test_prune_leaves_the_folders_of_other_programs_alone(ofe: Ofe, own: Path) -> None:
    theirs = [own / "runs" / name for name in ("exp-1", "run-20241126_101500-3kx9p2ab", "-", "My-Folder")]
    for folder in theirs:
        folder.mkdir()
        (folder / "results.csv").write_text("1\n")
    assert "nothing to remove" in ofe("cache", "prune", "--yes", home=own).stderr
    assert all((folder / "results.csv").exists() for folder in theirs)
    assert len(json.loads(ofe("cache", "list", "--json", home=own).stdout)) == 1


def test_data_list_json_has_the_promised_shape(ofe: Ofe) -> None:
    rows = json.loads(ofe("data", "list", "--json").stdout)
    assert {"name", "kind", "description", "network", "path"} == set(rows[0])
    assert "python-stdlib" in [row["name"] for row in rows]


def test_data_are_checked_prepared_and_checked_again(ofe: Ofe) -> None:
    before = ofe("data", "check", "fig1")
    assert before.exit_code == 1
    assert "ofe data prepare fig1" in before.stderr
    prepared = ofe("data", "prepare", "fig1", "--offline")
    assert Path(prepared.stdout.strip()).is_dir()
    assert ofe("data", "check", "fig1").exit_code == 0


def test_the_hint_to_prepare_data_can_be_typed_for_a_path_with_a_space(
    ofe: Ofe, collection: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "my figure.yaml"
    mine.write_text((collection / "fig1.yaml").read_text())
    _, hint = ofe("data", "check", str(mine)).stderr.split("hint: ")
    prepared = ofe(*shlex.split(hint)[1:])
    assert prepared.exit_code == 0, prepared.stderr
    assert ofe("data", "check", str(mine)).exit_code == 0


def test_text_of_ones_own_is_prepared_for_a_figure(ofe: Ofe, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/latin.txt").write_bytes(b"caf\xe9\n" * 900)
    for number in range(3):
        (tmp_path / f"mine/{number}.txt").write_text("".join(f"line {number} {line}\n" for line in range(4_000)))
    mine = ("--set", "data.source=folder", "--set", f"data.path={tmp_path / 'mine'}", "--set", "data.packing=stream")
    before = ofe("data", "check", "fig1", *mine)
    assert before.exit_code == 1
    assert "hint: ofe data prepare fig1 --scale laptop --set data.source=folder --set data.path=" in before.stderr
    prepared = ofe("data", "prepare", "fig1", *mine)
    assert Path(prepared.stdout.strip()).name.startswith("folder-")
    assert "tokenised" in prepared.stderr
    assert "1 of 4 files is not UTF-8 and is left out: latin.txt" in prepared.stderr
    after = ofe("data", "check", "fig1", *mine)
    assert after.exit_code == 0
    assert "1 of 4 files is not UTF-8 and is left out: latin.txt" in after.stdout


def test_damaged_data_are_found(ofe: Ofe) -> None:
    folder = Path(ofe("data", "prepare", "fig1").stdout.strip())
    tokens = folder / "train.npy"
    tokens.write_bytes(tokens.read_bytes()[:-1] + b"\xff")
    assert ofe("data", "check", "fig1").exit_code == 1


def test_doctor_looks_and_says_what_to_do_next(ofe: Ofe) -> None:
    checks = json.loads(ofe("doctor", "--json").stdout)
    assert {"name", "status", "detail", "hint"} == set(checks[0])
    assert checks[-1]["name"] == "next"


def test_the_evidence_of_a_figure_travels_in_one_file(ofe: Ofe, reproduced: Reproduced, tmp_path: Path) -> None:
    archive = str(tmp_path / "fig1.ofe.tar")
    done = ofe("cache", "export", "fig1", "-o", archive, home=reproduced[0])
    assert (done.exit_code, done.stdout) == (0, f"{archive}\n")
    there, out = tmp_path / "there", tmp_path / "out"
    drawn = ofe("plot", "fig1", "--from-cache", archive, "--out", str(out), home=there)
    assert (drawn.exit_code, drawn.stdout) == (0, f"{out / 'fig1.png'}\n")
    here = ofe("verify", "fig1", "--json", home=reproduced[0])
    again = ofe("verify", "fig1", f"--from-cache={archive}", "--json", home=there)
    assert json.loads(again.stdout) == json.loads(here.stdout)
    assert again.exit_code == here.exit_code == 1
    assert not (there / "runs").exists(), "reading an archive brings nothing into the cache"
    assert ofe("cache", "import", archive, home=there).exit_code == 0
    assert ofe("plan", "fig1", "--check", home=there).exit_code == 0


def test_a_file_that_is_no_archive_is_refused_in_words(ofe: Ofe, tmp_path: Path) -> None:
    (tmp_path / "no.tar").write_bytes(b"no archive")
    for words in (("plot", "--from-cache", str(tmp_path / "no.tar")), ("cache", "import", str(tmp_path / "no.tar"))):
        result = ofe(*words)
        assert result.exit_code == 1
        assert "hint:" in result.stderr
    assert ofe("cache", "export", "fig1", "-o", str(tmp_path / "x.zip")).exit_code == 2


def test_provenance_says_how_and_with_what_a_run_was_trained(reproduced: Reproduced) -> None:
    provenance = json.loads((_run_folder(reproduced[0]) / "provenance.json").read_text())
    assert provenance["command"].startswith("ofe reproduce fig1")
    assert provenance["device_hours"] == pytest.approx(provenance["seconds"] / 3600)
    assert 0 < provenance["cpu_seconds"] < 600, "which other work on the machine does not add to"
    assert {"packages", "machine", "threads", "precision", "git", "device", "data"} <= provenance.keys()
    assert "environ" not in json.dumps(provenance)
