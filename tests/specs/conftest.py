"""A small collection of specs of its own, which each test may rewrite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

TOY = """\
id: toy
title: A toy
paper_data: [codeparrot]
base:
  block: pre-ln
  model: {kind: transformer, layers: 2, width: 64, heads: 2}
  data: {kind: text, source: codeparrot, seq_len: 16, vocab_size: 300}
  optimizer: {name: adamw, lr: 1e-3, weight_decay: 0.1}
  schedule: {warmup_fraction: 0.05}
  steps: 1000
  batch_size: 32
  grad_clip: 1.0
  probe: {every: 100, batch_size: 8}
  eval: {every: 500, batches: 4}
blocks:
  op: {attn_gain: 0.3, mlp_gain: 0.3}
sources:
  block: inferred
  model: stated-v1
  model.heads: [code, not in the text]
  data: stated-v1
  optimizer: stated-v2
  schedule: stated-v1
  steps: stated-v1
  batch_size: stated-v1
  grad_clip: stated-v2
  probe: code
  eval: inferred
  blocks.op: [stated-v2, not trained]
scales:
  smoke:
    because: quick
    seeds: 2
    model: {width: 32}
    optimizer: {lr: 5e-3}
    data: {source: python-stdlib}
    steps: 20
  laptop: {because: small, data: {source: python-stdlib}, steps: 100, precision: auto}
  workstation: {because: one GPU, steps: 500}
  paper: {because: the paper}
runs:
  - {name: toy-pre, label: Pre-LN}
  - {name: toy-op, label: OP, block: op, source: stated-v1, note: the block of Sec 3}
  - {name: toy-slow, label: slow, optimizer: {lr: 3e-4}, at: {smoke: {optimizer: {lr: 2e-3}, because: slow}}}
"""

FIG1 = """\
id: fig1
v1: Figure 1
v2: Figure 3
title: A figure
kind: training
section: '3'
setting: toy
runs:
  - toy-pre
  - {name: toy-op, seeds: 3, label: Ours}
plot:
  kind: lines
  y:
    - {metric: kurtosis, scale: log}
  layers: mean
claims:
  - id: c1
    says: lower
    left: {metric: kurtosis, run: toy-op, layer: 2, over: peak}
    cmp: lt
    right: {metric: kurtosis, run: toy-slow, layer: 2, over: peak}
    source: v1 Sec 3
    basis: stated
    needs: [toy-slow]
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the setting `toy` and the experiment `fig1`; messages name files relative to it."""
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "toy.yaml").write_text(TOY)
    (tmp_path / "fig1.yaml").write_text(FIG1)
    monkeypatch.setenv("OFE_EXPERIMENTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def change(root: Path) -> Callable[[str, str, str], None]:
    """Replaces, once, a text in a file of `root`."""

    def replace(name: str, old: str, new: str) -> None:
        text = (root / name).read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {name}"
        (root / name).write_text(text.replace(old, new))

    return replace
