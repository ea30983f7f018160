"""What Tab offers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reproduce.cli.completion import complete_figure, complete_run, complete_setting


def test_figures_are_offered_with_their_titles() -> None:
    offered = dict(complete_figure("fig1"))
    assert offered["fig13"] == "Kurtosis in every layer, four norm choices and OP"
    assert all(name.startswith("fig1") for name in offered)
    assert "all" in dict(complete_figure(""))


def test_specs_of_the_folder_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("id: mine\ntitle: My own\n")
    monkeypatch.chdir(tmp_path)
    assert complete_figure("mi") == [("mine.yaml", "My own")]
    assert complete_figure(f"{tmp_path}/m") == [(f"{tmp_path}/mine.yaml", "My own")]


def test_settings_and_runs_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert complete_setting("languini-1") == ["languini-1.2b", "languini-100m"]
    monkeypatch.setenv("OFE_HOME", str(tmp_path))
    assert complete_run("") == []
    (tmp_path / "runs" / "cp-op-laptop-s0-0123456789abcdef").mkdir(parents=True)
    assert complete_run("cp") == [("cp-op-laptop-s0", "0123456789abcdef")]
    assert complete_run("x") == []


def test_a_folder_of_specs_that_is_not_there_offers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFE_EXPERIMENTS", "/nowhere")
    assert complete_figure("fig") == complete_setting("c") == []


def test_the_shell_gets_ids() -> None:
    env = {**os.environ, "_OFE_COMPLETE": "complete_bash", "COMP_WORDS": "ofe show v2-fig8", "COMP_CWORD": "2"}
    code = "from reproduce.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.split() == ["v2-fig8"]
