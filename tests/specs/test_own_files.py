"""Settings and runs of one's own, by path, and a commented start for a figure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reproduce.errors import SpecError
from reproduce.specs.load import experiment_file, list_experiments, load_experiment, portable
from reproduce.specs.resolve import resolve
from reproduce.specs.start import start_of

SETTING = """\
id: mine
title: A recipe of mine
base:
  block: pre-ln
  model: {kind: transformer, layers: 2, width: 64, heads: 2}
  data: {kind: text, source: python-stdlib, seq_len: 16, vocab_size: 300}
  optimizer: {name: adamw, lr: 1e-3}
  steps: 100
  batch_size: 4
  precision: fp32
  probe: {every: 10, batch_size: 2}
  eval: {every: 10, batches: 1}
scales: {laptop: {because: small}}
runs:
  - {name: cp-op, label: my OP, block: op}
"""
FIGURE = """\
id: own
title: Mine
setting: recipes/mine.yaml
runs: [cp-op, runs/fast.yaml]
plot: {kind: lines, y: [{metric: eval_loss}]}
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A figure with a setting and a run in files beside it."""
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text(SETTING)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "fast.yaml").write_text("name: fast\nlabel: fast\noptimizer: {lr: 0.01}\n")
    figure = tmp_path / "own.yaml"
    figure.write_text(FIGURE)
    return figure


def test_a_setting_and_a_run_are_found_from_the_specs_own_folder(own: Path) -> None:
    runs = resolve(load_experiment(str(own)), "laptop", fingerprint=lambda data: "").runs
    assert [(run.name, run.label, run.setting, run.paper_data) for run in runs] == [
        ("cp-op", "my OP", "mine", True),  # its own run, before the shipped one of that name
        ("fast", "fast", "mine", True),
    ]
    assert [run.training.optimizer.lr for run in runs] == [0.001, 0.01]
    assert runs[0].training.model.width == 64


def test_texts_that_are_the_same_figure_in_one_folder(own: Path, tmp_path: Path) -> None:
    """As an archive has them."""
    there = tmp_path / "elsewhere"
    there.mkdir()
    texts = portable(str(own))
    assert list(texts) == ["own", "own.mine"]
    for name, text in texts.items():
        (there / f"{name}.yaml").write_text(text)
    here, again = (resolve(load_experiment(str(path)), "laptop", fingerprint=lambda data: "")
                   for path in (own, there / "own.yaml"))  # fmt: skip
    assert again.runs == here.runs
    assert again.experiment.plot == here.experiment.plot
    own.write_text(own.read_text().replace("recipes/mine.yaml", "codeparrot-130m").replace(", runs/fast.yaml", ""))
    assert portable(str(own)) == {"own": own.read_text()}


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("own.yaml", "recipes/mine.yaml", "nowhere.yaml", r"own.yaml:3:10: setting: there is no file .*nowhere.yaml"),
        ("own.yaml", "runs/fast.yaml", "runs/slow.yaml", r"cannot read .*slow.yaml"),
        ("own.yaml", "[cp-op", "[cp-postln", r"setting: |cp-postln is a run of setting codeparrot-130m"),
        ("runs/fast.yaml", "lr: 0.01", "rate: 0.01", r"fast.yaml:3:13: optimizer.rate"),
        ("runs/fast.yaml", "label: fast\n", "", r"fast.yaml:1:1: label: required, but missing"),
        ("recipes/mine.yaml", "id: mine", "id: vit-b", r"has the id vit-b, which is that of a shipped setting"),
        ("recipes/mine.yaml", "lr: 1e-3", "lr: fast", r"mine.yaml:7:32: base.optimizer.lr"),
    ],
)
def test_a_mistake_in_one_of_the_files_is_named_with_its_place(
    own: Path, file: str, old: str, new: str, message: str
) -> None:
    path = own.parent / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(SpecError, match=message):
        load_experiment(str(own))


def test_a_changed_setting_is_read_anew(own: Path) -> None:
    load_experiment(str(own))
    path = own.parent / "recipes" / "mine.yaml"
    path.write_text(SETTING.replace("width: 64", "width: 32"))
    os.utime(path, ns=(1, 1))
    (first, _) = resolve(load_experiment(str(own)), "laptop", fingerprint=lambda data: "").runs
    assert first.training.model.width == 32


@pytest.mark.parametrize("name", [experiment.id for experiment in list_experiments()])
def test_every_shipped_figure_is_a_start(name: str, tmp_path: Path) -> None:
    source = load_experiment(name)
    file = tmp_path / "own.yaml"
    file.write_text(start_of(source, name, experiment_file(name).read_text(), "own", str(file)))
    own = load_experiment(str(file))
    assert (own.id, own.title, own.setting, own.runs) == ("own", source.title, source.setting, source.runs)
    assert (own.plot, own.claims) == (source.plot, source.claims)
    assert (own.v1, own.findings, own.published) == (None, {}, {})
    text = file.read_text()
    assert text.count("#") >= 8
    assert not source.runs or "# - name: own-run" in text


def test_the_run_of_the_start_works_once_it_is_uncommented(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    text = start_of(load_experiment("fig2"), "fig2", experiment_file("fig2").read_text(), "own", str(file))
    lines = [f"  {line[4:]}" if line.startswith("  # ") and ("- name" in line or ": " in line) else line
             for line in text.splitlines() if "Remove the" not in line and "A file with" not in line]  # fmt: skip
    file.write_text("\n".join(lines))
    runs = resolve(load_experiment(str(file)), "laptop", fingerprint=lambda data: "").runs
    assert (runs[-1].name, runs[-1].training.optimizer.lr) == ("own-run", 0.002)
