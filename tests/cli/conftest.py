"""A collection of two figures that train in seconds on a folder of text, and the command line on it."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from reproduce.cli.app import app
from reproduce.jobs.executor import LocalProcesses
from reproduce.store.runs import RunFolder

SETTING = """\
id: toy
title: A toy
paper_data: [codeparrot]
base:
  block: pre-ln
  model: {{kind: transformer, layers: 2, width: 16, heads: 2}}
  data: {{kind: text, source: folder, path: "{text}", seq_len: 16, vocab_size: 300}}
  optimizer: {{name: adamw, lr: 1e-3}}
  steps: 10
  batch_size: 2
  precision: fp32
  probe: {{every: 5, batch_size: 2}}
  eval: {{every: 5, batches: 1}}
sources:
  {{block: inferred, model: inferred, data: inferred, optimizer: inferred, steps: inferred, batch_size: inferred,
   precision: inferred, probe: inferred, eval: inferred}}
scales:
  smoke: {{because: quick}}
  laptop: {{because: small, steps: 20}}
runs:
  - {{name: toy-ln, label: Pre-LN}}
"""
FIGURE = """\
id: fig1
v1: Figure 1
v2: Figure 1
title: A toy curve
kind: training
section: "1"
setting: toy
runs: [toy-ln]
plot: {kind: lines, y: [{metric: kurtosis}], layers: [2]}
claims:
  - id: c1
    says: Kurtosis is at least one
    left: {metric: kurtosis, run: toy-ln, layer: 2, over: peak}
    cmp: ge
    right: 1
    source: Eq 1
    basis: inferred
  - id: c2
    says: Kurtosis is above a million
    left: {metric: kurtosis, run: toy-ln, layer: 2, over: peak}
    cmp: ge
    right: 1.0e+6
    source: nowhere
    basis: project
"""
DIAGRAM = """\
id: fig9
v1: Figure 9
v2: null
title: A block
kind: diagram
section: "2"
setting: null
plot: {kind: diagram, block: op}
"""

Ofe = Callable[..., Result]
Process = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Specs of one trained figure and one drawing, on text of their own."""
    text = tmp_path_factory.mktemp("text")
    for number in range(4):
        words = "\n".join(f"line {n} of {number}: value = {n * n % 97} and more words" for n in range(400))
        (text / f"{number}.txt").write_text(words)
    folder = tmp_path_factory.mktemp("experiments")
    (folder / "settings").mkdir()
    (folder / "settings" / "toy.yaml").write_text(SETTING.format(text=text))
    (folder / "fig1.yaml").write_text(FIGURE)
    (folder / "fig9.yaml").write_text(DIAGRAM)
    return folder


def _environment(home: Path, collection: Path) -> dict[str, str]:
    """That of a process which must see these folders and no colour."""
    own = {"OFE_HOME": str(home), "OFE_EXPERIMENTS": str(collection), "OFE_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, "NO_COLOR": "1"}


@pytest.fixture(scope="session")
def python(collection: Path) -> Process:
    """Call Python in a process of its own, on the small collection and the given home."""

    def call(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        env = _environment(home, collection)
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)

    return call


@pytest.fixture(scope="session")
def reproduced(
    tmp_path_factory: pytest.TempPathFactory, python: Process
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A home in which the figure has been reproduced, and what the command that did so printed."""
    home = tmp_path_factory.mktemp("home")
    done = python(home, "-m", "reproduce", "reproduce", "fig1", "--scale", "laptop")
    assert done.returncode == 0, done.stderr
    return home, done


@pytest.fixture
def ofe(collection: Path, tmp_path: Path) -> Ofe:
    """Call the command line in this process, with an empty home unless `home` names another."""
    runner = CliRunner()

    def call(*arguments: str, home: Path | None = None, input: str | None = None) -> Result:
        result = runner.invoke(
            app, list(arguments), env=_environment(home or tmp_path / "home", collection), input=input
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


class InProcess:
    """A worker that has done its job in this process. Starting one that loads torch takes seconds."""

    def __init__(self, processes: object, folder: RunFolder, place: int) -> None:
        from reproduce.jobs.worker import main  # loads torch, which tests that only read do without

        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            self.code = main([str(folder.path)])
        self.said = said.getvalue()

    def poll(self) -> int:
        return self.code

    def messages(self) -> str:
        return self.said


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Workers do their jobs in this process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(LocalProcesses, "submit", lambda *given: InProcess(*given))
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
