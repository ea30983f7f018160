"""Figures of checkpoints: a fake hub in the real layout, snapshots of a run of ours, and what both are said to be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.checkpoints.tiny import build, save

Ofe = Callable[..., Result]
pytestmark = pytest.mark.usefixtures("in_this_process")

SETTING = """\
id: models
title: Open models
paper_data: []
base:
  block: pre-ln
  model: {{kind: transformer, layers: 2, width: 16, heads: 2}}
  data: {{kind: text, source: folder, path: "{text}", seq_len: 16, vocab_size: 300}}
  optimizer: {{name: adamw, lr: 1e-3}}
  steps: 6
  batch_size: 2
  precision: fp32
  probe: {{every: 6, batch_size: 2}}
  eval: {{every: 6, batches: 1}}
text: {{seq_len: 16, examples: 4, correlations: true}}
scales:
  smoke: {{because: quick}}
  laptop: {{because: small}}
  paper: {{because: the hub}}
runs:
  - {{name: own, label: own}}
checkpoints:
  - name: hubbed
    label: Hubbed
    hub: owner/tiny
    steps: {{paper: [0, 8, 512]}}
    size: {{layers: 3, width: 32, parameters: 12345, stored_bytes: 1000000}}
  - name: snapshots
    label: Snapshots
    run: own
    steps: {{laptop: [0, 2, 4, 100]}}
    stands_for: Hubbed
"""
FIGURE = """\
id: models
title: Models through training
kind: pretrained
setting: models-setting.yaml
runs: [hubbed, snapshots]
plot:
  kind: lines
  x: {metric: step, scale: log}
  y: [{metric: kurtosis}, {metric: kurtosis_skipped}]
  layers: blocks
  panels: [metric, run]
  series: layer
claims:
  - id: c1
    says: Kurtosis is at least one in both columns
    left: {metric: kurtosis_skipped, run: hubbed, layer: each, over: min}
    cmp: ge
    right: 1
    source: Eq 1
    basis: inferred
    scales: [paper]
  - id: c2
    says: The stand-in is far above one million
    left: {metric: input_correlation_rms, run: snapshots, layer: max, over: final}
    cmp: gt
    right: 1.0e+6
    source: nowhere
    basis: project
    scales: [laptop]
"""


@pytest.fixture
def figure(tmp_path: Path) -> str:
    text = tmp_path / "text"
    text.mkdir()
    (text / "a.txt").write_text("\n".join(f"line {n}: value = {n * n % 97} and more words" for n in range(400)))
    (text / "b.txt").write_text("\n".join(f"row {n}: number = {n * n % 89} and others" for n in range(400)))
    (tmp_path / "models-setting.yaml").write_text(SETTING.format(text=text))
    (tmp_path / "models.yaml").write_text(FIGURE)
    return str(tmp_path / "models.yaml")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A GPT-NeoX at three steps of its training, in the layout of the hub's cache and in float16, as Pythia is."""
    repository = tmp_path / "hub" / "models--owner--tiny"
    (repository / "refs").mkdir(parents=True)
    for seed, step in enumerate((0, 8, 512)):
        save(build("GPTNeoX", seed=seed).half(), repository / "snapshots" / f"{step:040}")
        (repository / "refs" / f"step{step}").write_text(f"{step:040}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return repository


def test_revisions_on_the_hub_are_one_run_over_steps(ofe: Ofe, figure: str, hub: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    planned = json.loads(ofe("plan", figure, "--scale", "paper", "--json", home=home).stdout)
    assert [(run["slug"], run["params"], run["state"]) for run in planned["runs"]] == [
        (f"tiny-step{step}-measured", 12345, "missing") for step in (0, 8, 512)
    ]
    assert planned["total"]["download_bytes"] == 3_000_000
    assert {run["tokens"] for run in planned["runs"]} == {64}
    assert not (home / "commits.json").exists()  # whoever only looks asks no hub

    out = ("-o", str(tmp_path / "out"))
    done = ofe("reproduce", figure, "--scale", "paper", "--offline", *out, home=home)
    assert done.exit_code == 0, done.stderr
    commits = json.loads((home / "commits.json").read_text())
    assert commits == {"owner/tiny": {f"step{step}": f"{step:040}" for step in (0, 8, 512)}}
    (verdict, _) = json.loads(ofe("verify", figure, "--scale", "paper", "--json", home=home).stdout)
    assert verdict["verdict"] == "reproduced", verdict
    assert verdict["data"] == "prose-and-code (substitute)" or not verdict["data"].endswith("Hubbed")

    # The same measurements as the user's own of the same revisions, once done.
    own = ("--tokens", "64", "--seq-len", "16", "--correlations", "--revision", "step8", "--offline", "--json")
    (reading,) = json.loads(ofe("measure", "owner/tiny", *own, home=home).stdout)
    assert reading["key"] in {path.name.rpartition("-")[2] for path in (home / "runs").iterdir()}
    assert len(list((home / "runs").iterdir())) == 3
    again = json.loads(ofe("plan", figure, "--scale", "paper", "--json", home=home).stdout)
    assert again["total"]["hits"] == 3

    refused = ofe("reproduce", figure, "--scale", "paper", "--set", "steps=3", home=home)
    assert refused.exit_code == 2
    assert "hubbed is a checkpoint from elsewhere" in " ".join(refused.stderr.split())


def test_snapshots_of_a_run_go_the_way_of_any_checkpoint(ofe: Ofe, figure: str, tmp_path: Path) -> None:
    home, out = tmp_path / "home", ("-o", str(tmp_path / "out"))
    done = ofe("reproduce", figure, "--scale", "laptop", *out, home=home)
    assert done.exit_code == 0, done.stderr
    slugs = sorted(path.name.rpartition("-")[0] for path in (home / "runs").iterdir())
    assert slugs == ["own-laptop-s0", *(f"snapshots-laptop-s0-at-{step}-on-prose-and-code" for step in (0, 2, 4, 6))]
    (_, verdict) = json.loads(ofe("verify", figure, "--scale", "laptop", "--json", home=home).stdout)
    assert verdict["verdict"] == "not reproduced"
    assert verdict["data"] == "prose-and-code (substitute); Snapshots in place of Hubbed"

    # Measured as an exported OPT, which transformers computes, it is the run that our own module computes.
    exported = json.loads(
        (next((home / "runs").glob("snapshots-laptop-s0-at-6-*")) / "provenance.json").read_text(encoding="utf-8")
    )
    assert exported["model"]["architecture"] == "OPTForCausalLM"
    assert exported["parent"]["step"] == 6
    assert exported["parent"]["seconds"] > 0
    own = ("--tokens", "64", "--seq-len", "16", "--correlations", "--dataset", "python-stdlib", "--json")
    (direct,) = json.loads(ofe("measure", "own-laptop-s0", *own, home=home).stdout)
    assert len(direct["layers"]) == 3

    promoted = ofe("cache", "promote", "snapshots-laptop-s0-at-6-on-prose-and-code", home=home)
    assert "rests on a folder of this machine" in " ".join(promoted.stderr.split())


LAB = """\
id: lab
title: A checkpoint from elsewhere beside a run of ours
setting: models-setting.yaml
runs:
  - {name: own, quantised: {widths: [], rows: [tensor, keys-8], examples: 2, calibration_batch_size: 1}}
  - {name: hubbed, quantised: {widths: [], rows: [tensor, keys-8], examples: 2, calibration_batch_size: 1}}
plot: {kind: methods, rows: [tensor, keys-8]}
claims:
  - id: c1
    says: Int8 changes the perplexity of the checkpoint by less than half
    left: {metric: tensor_ppl, run: hubbed, over: final}
    cmp: approx
    right: {metric: eval_ppl, run: hubbed, over: final}
    rel_tol: 0.5
    source: nowhere
    basis: project
"""


def test_a_figure_quantises_a_checkpoint_beside_runs_of_ours(ofe: Ofe, figure: str, hub: Path, tmp_path: Path) -> None:
    """Plan, run, verdict, table, and what is said of it."""
    home, out = tmp_path / "home", ("-o", str(tmp_path / "out"))
    setting, lab = tmp_path / "models-setting.yaml", str(tmp_path / "lab.yaml")
    setting.write_text(setting.read_text().replace("steps: {paper: [0, 8, 512]}", "steps: {laptop: [8]}"))
    (tmp_path / "lab.yaml").write_text(LAB)
    planned = json.loads(ofe("plan", lab, "--scale", "laptop", "--json", home=home).stdout)
    assert [run["slug"] for run in planned["runs"]][-1] == "tiny-step8-quantised"
    done = ofe("reproduce", lab, "--scale", "laptop", "--offline", *out, home=home)
    assert done.exit_code == 0, done.stderr
    (verdict,) = json.loads(ofe("verify", lab, "--scale", "laptop", "--json", home=home).stdout)
    assert verdict["verdict"] == "reproduced", verdict
    table = (tmp_path / "out" / "lab.md").read_text(encoding="utf-8")
    assert [line.split(" | ")[2] for line in table.splitlines() if line.startswith("| Hubbed")] == [
        "full precision", "per tensor", "keys of 5 bits, blocks of 8",
    ]  # fmt: skip
    assert "place at each tensor" in (tmp_path / "out" / "lab.csv").read_text(encoding="utf-8")
    assert "in place of" not in verdict["data"]
    told = json.loads(ofe("show", lab, "--scale", "laptop", "--json", home=home).stdout)
    assert [run["label"] for run in told["runs"]] == ["own", "Hubbed"]
    assert "tiny-step8-quantised" in ofe("status", home=home).stdout

    refused = ofe("reproduce", lab, "--scale", "laptop", "--set", "steps=3", home=home)
    assert refused.exit_code == 2
    assert "hubbed is a checkpoint from elsewhere" in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{name: hubbed, quantised: {widths: [],", "{name: hubbed, quantised: {widths: [8],",
         "runs[1].quantised.widths: the published protocol is of this package's models, expected []"),
        ("{name: hubbed, quantised: {widths: [],", "{name: hubbed, quantised: {",
         "runs[1].quantised: the published protocol is of this package's models, expected []"),
        ("name: hubbed,", "name: snapshots,", "snapshots is what a run was on its way: name own itself"),
        ("{name: hubbed, quantised: {widths: [], rows: [tensor, keys-8], examples: 2, calibration_batch_size: 1}}",
         "{name: hubbed, measured: {at: [0, 1]}}",
         "runs[1].measured: hubbed is a checkpoint, whose setting says where it is measured"),
    ],
)  # fmt: skip
def test_what_a_figure_cannot_ask_of_a_checkpoint(
    ofe: Ofe, figure: str, tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert LAB.count(old) == 1 or old == "name: hubbed,"
    (tmp_path / "lab.yaml").write_text(LAB.replace(old, new, 1))
    refused = ofe("show", str(tmp_path / "lab.yaml"), "--scale", "laptop")
    assert refused.exit_code == 2
    assert said in " ".join(refused.stderr.split())
