"""`ofe report`: from the traces at hand to one page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from reproduce.specs.load import list_experiments

Ofe = Callable[..., Result]
Reproduced = tuple[Path, subprocess.CompletedProcess[str]]


def test_a_page_has_the_figures_asked_for_with_pictures_and_curves(
    ofe: Ofe, reproduced: Reproduced, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "page.html"
    result = ofe("report", "fig1", "fig9", "--out", str(out), home=reproduced[0])
    assert (result.exit_code, result.stdout) == (0, f"{out}\n"), result.stderr
    text = out.read_text()
    assert re.findall(r'<article id="([^"]*)"', text) == ["fig1-laptop", "fig9-laptop"]
    assert text.count('src="data:image/webp;base64,') == 2
    assert 'data-charts="fig1-laptop"' in text
    assert "Kurtosis is above a million" in text
    assert "<code>ofe reproduce fig9</code>" in text


def test_a_figure_without_traces_is_there_without_a_picture(ofe: Ofe, tmp_path: Path) -> None:
    assert ofe("report", "--out", str(tmp_path / "page.html")).exit_code == 0
    text = (tmp_path / "page.html").read_text()
    assert "No trace yet: toy-ln-laptop-s0" in text
    assert text.count('src="data:image/webp') == 1, "the drawing needs no trace"


def test_the_smoke_scale_is_shown_of_named_figures_alone_and_where_they_have_nothing_else(
    ofe: Ofe, reproduced: Reproduced, tmp_path: Path
) -> None:
    home, out = tmp_path / "home", tmp_path / "page.html"
    assert ofe("reproduce", "fig1", "--scale", "smoke", home=home).exit_code == 0

    def shown(*ids: str) -> list[str]:
        assert ofe("report", *ids, "--out", str(out), home=home).exit_code == 0
        return [name for name in re.findall(r'<article id="([^"]*)"', out.read_text()) if name.startswith("fig1-")]

    assert shown("fig1") == ["fig1-smoke"]
    assert shown() == ["fig1-laptop"]
    shutil.copytree(reproduced[0] / "runs", home / "runs", dirs_exist_ok=True)
    assert shown("fig1") == ["fig1-laptop"]


def test_a_folder_is_no_page(ofe: Ofe, tmp_path: Path) -> None:
    result = ofe("report", "fig1", "--out", str(tmp_path))
    assert result.exit_code == 2
    assert "is a folder" in result.stderr


@pytest.mark.slow
def test_the_page_of_all_shipped_figures_is_complete_and_below_5_mb(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    env = {**os.environ, "OFE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "reproduce", "report", "--out", str(out)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = out.read_text()
    assert len(text.encode()) < 5_000_000
    shown = text.count("<article id=")
    curves = text.partition('id="curves">')[2].partition("</script>")[0]
    pictures = sum(map(len, re.findall(r'src="(data:image[^"]*)"', text)))
    # What a figure takes at most on average, so that another scale of them fits: pictures, curves, words.
    assert pictures / shown < 48_000
    assert len(curves) / shown < 4_000
    assert (len(text) - pictures - len(curves)) / shown < 12_000
    there = {name.rpartition("-")[0] for name in re.findall(r'<article id="([^"]*)"', text)}
    assert there == {experiment.id for experiment in list_experiments()}
