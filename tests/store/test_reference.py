"""Traces shipped with the code."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reproduce.errors import OfeError
from reproduce.job_config import CheckpointParent, TextSample
from reproduce.specs.runs import ResolvedRun, checkpoint_quantisation
from reproduce.specs.schema import SCALES
from reproduce.store.reference import add_reference, find_reference, read_index, reference_root, without_machine
from reproduce.store.runs import RunFolder, Store

MakeRun = Callable[..., ResolvedRun]
MakeSealed = Callable[..., RunFolder]


def assert_index_agrees(figures: Path, scale: str) -> None:
    traces = figures / scale / "traces"
    folders = {path.name: RunFolder(path) for path in traces.glob("*-*") if path.is_dir()}
    expected = {}
    for name, folder in folders.items():
        folder.verify()
        content = folder.read_run_yaml()
        entry = {"folder": name, "key": content["key"], "name": content["name"], "seed": content["seed"]}
        expected[content["recipe"]] = entry
    assert read_index(scale, figures) == expected
    assert len(expected) == len(folders)


@pytest.mark.parametrize("scale", SCALES)
def test_the_shipped_index_and_folders_agree(scale: str) -> None:
    assert_index_agrees(reference_root(), scale)


def test_a_reference_is_found_with_another_fingerprint_and_precision(
    make_run: MakeRun, make_sealed: MakeSealed, tmp_path: Path
) -> None:
    folder = make_sealed(make_run(fingerprint="python 3.11", precision="bf16"))
    added = add_reference(folder, "smoke", tmp_path)
    here = make_run(fingerprint="python 3.14", precision="fp32")
    assert here.key != folder.key
    assert find_reference(here.recipe, "smoke", tmp_path) == added
    assert added.read_trace().equals(folder.read_trace())
    assert find_reference(here.recipe, "laptop", tmp_path) is None
    assert find_reference(make_run(seed=1).recipe, "smoke", tmp_path) is None
    assert_index_agrees(tmp_path, "smoke")


def test_the_index_holds_every_reference(make_run: MakeRun, make_sealed: MakeSealed, tmp_path: Path) -> None:
    for seed in (1, 0):
        add_reference(make_sealed(make_run(seed=seed)), "smoke", tmp_path)
    assert_index_agrees(tmp_path, "smoke")
    first = (tmp_path / "smoke" / "traces" / "index.json").read_bytes()
    add_reference(make_sealed(make_run(seed=1)), "smoke", tmp_path)
    assert (tmp_path / "smoke" / "traces" / "index.json").read_bytes() == first
    assert sorted(entry["seed"] for entry in json.loads(first).values()) == [0, 1]


def test_a_newer_reference_takes_the_place_of_the_older(
    make_run: MakeRun, make_sealed: MakeSealed, tmp_path: Path
) -> None:
    older, newer = (add_reference(make_sealed(make_run(fingerprint=text)), "smoke", tmp_path) for text in "ab")
    assert not older.path.exists()
    assert find_reference(make_run().recipe, "smoke", tmp_path) == newer
    assert_index_agrees(tmp_path, "smoke")


def test_a_reference_has_the_name_of_a_checkpoint_and_not_its_place(make_sealed: MakeSealed, tmp_path: Path) -> None:
    parent = CheckpointParent(form="gguf", name="model.gguf", path="/home/ada/model.gguf", fingerprint="0" * 16)
    job = checkpoint_quantisation(parent, TextSample(fingerprint="1" * 16), 2, rows=("tensor",))
    folder = make_sealed(replace(job, name="model", setting="toy", scale="laptop"))
    added = add_reference(folder, "laptop", tmp_path)
    assert "/home/ada" not in "".join(path.read_text(errors="ignore") for path in added.path.iterdir())
    added.verify()
    added.check_key()
    assert added.key == folder.key
    assert "/home/ada/model.gguf" in (folder.path / "run.yaml").read_text(), "the run itself still knows it"


def test_no_shipped_trace_names_a_place_of_a_machine() -> None:
    folders = [RunFolder(path) for path in reference_root().glob("*/traces/*-*")]
    assert folders
    for said in (said for folder in folders for said in (folder.read_run_yaml(), folder.provenance())):
        assert without_machine(said) == said


def test_a_reference_says_nothing_of_the_machine(make_run: MakeRun, make_sealed: MakeSealed, tmp_path: Path) -> None:
    folder = make_sealed(make_run(), machine={"cpu": "x86", "hostname": "ws12"}, note="read /home/ada/data/a.py")
    added = add_reference(folder, "smoke", tmp_path)
    assert added.provenance() == {
        "failed": False,
        "failed_step": None,
        "substitute": True,
        "machine": {"cpu": "x86"},
        "note": "read <path>",
    }
    assert folder.provenance()["machine"]["hostname"] == "ws12", "the run itself keeps them"
    added.verify()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ada", "<path>"),
        ("at /home/ada/x.py:3, and C:\\Users\\ada", "at <path>:3, and <path>"),
        ("3 tokens/s and a/b/c", "3 tokens/s and a/b/c"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("'/opt/py thon'", "'<path> thon'"),
    ],
)
def test_absolute_paths_are_blotted_out(text: str, expected: str) -> None:
    assert without_machine({"notes": [text, 3, None]}) == {"notes": [expected, 3, None]}


def test_a_run_on_a_folder_of_this_machine_is_not_shipped(
    make_run: MakeRun, make_sealed: MakeSealed, tmp_path: Path
) -> None:
    with pytest.raises(OfeError, match="a folder of this machine"):
        add_reference(make_sealed(make_run(path="/home/ada/code")), "smoke", tmp_path)
    assert list(tmp_path.glob("smoke/**/*")) == []


def test_an_unfinished_run_is_not_shipped(make_run: MakeRun, store: Store, tmp_path: Path) -> None:
    with pytest.raises(OfeError, match="not a sealed run"):
        add_reference(store.create(make_run()), "smoke", tmp_path)


def test_a_damaged_index_is_named(tmp_path: Path) -> None:
    (tmp_path / "smoke" / "traces").mkdir(parents=True)
    (tmp_path / "smoke" / "traces" / "index.json").write_text("{")
    with pytest.raises(OfeError, match=r"index\.json"):
        read_index("smoke", tmp_path)
