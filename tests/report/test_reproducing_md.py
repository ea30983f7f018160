"""REPRODUCING.md says what the shipped specs and reference traces say, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reproduce.cli.gallery import read_record
from reproduce.cli.selection import Shelf
from reproduce.report import reproducing_md
from reproduce.specs.load import list_experiments, load_experiment
from reproduce.specs.resolve import resolve
from reproduce.specs.runs import ResolvedRun
from reproduce.store.reference import add_reference
from reproduce.store.runs import RunFolder, Store
from reproduce.store.seal import seal
from reproduce.store.trace import TraceWriter

CLONE = Path(__file__).parents[2]
PEAKS = {"cp-op": 1.5, "cp-postln": 1.9, "cp-preln": 60.0, "cp-prerms": 70.0, "cp-presrms": 120.0}


def sealed(store: Store, run: ResolvedRun) -> RunFolder:
    """A run of 90 seconds that starts at a kurtosis of 1.1 in every layer and ends at its peak."""
    folder = store.create(run)
    with TraceWriter(folder.path) as trace:
        for step, kurtosis in ((0, 1.1), (2000, PEAKS[run.name])):
            trace.record(step, "probe", {"kurtosis": {str(layer): kurtosis for layer in range(1, 7)}})
            trace.record(step, "eval", {"loss": 3.0})
            trace.record(step, "train", {"loss": 3.0})
    seal(folder.path, {"failed": False, "failed_step": None, "substitute": True, "seconds": 90.0})
    return folder


@pytest.fixture
def figures(tmp_path: Path) -> Path:
    """Reference traces of Figure 2 at laptop scale."""
    runs = resolve(load_experiment("fig2"), "laptop", fingerprint=lambda data: "").runs
    for run in runs:
        add_reference(sealed(Store(tmp_path / "home"), run), "laptop", tmp_path / "figures")
    return tmp_path / "figures"


def row(page: str, start: str) -> list[str]:
    """Cells of the only table row that starts with `start`."""
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {start} ")]
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_the_committed_page_is_the_generated_one() -> None:
    written = (CLONE / "REPRODUCING.md").read_text(encoding="utf-8")
    assert written == reproducing_md.page(), "run `make figures`"


def test_shipped_pictures_are_of_the_present_specs_and_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFE_HOME", str(tmp_path))
    shelf, stale, untraced = Shelf("laptop"), [], set()
    for experiment in list_experiments():
        resolved = resolve(experiment, "laptop", fingerprint=lambda data: "")
        traces = shelf.traces(resolved)
        if traces and not any(traces.values()):
            untraced.add(experiment.id)
        elif read_record(CLONE / "figures" / "laptop", resolved, traces) is None:
            stale.append(experiment.id)
    assert not stale, "run `make figures`"
    assert untraced == set()


@pytest.fixture(scope="module")
def shipped() -> list[reproducing_md.Entry]:
    return list(reproducing_md.survey(CLONE / "figures"))


def test_what_failed_is_told_with_what_was_found(shipped: list[reproducing_md.Entry]) -> None:
    assert any(entry.verdicts for entry in shipped)
    for entry in shipped:
        told = [scale for scale in entry.experiment.findings if scale == entry.scale]
        failed = [
            verdict.claim
            for verdict in entry.verdicts
            if verdict.verdict in ("not reproduced", "direction only") or verdict.early
        ]
        assert told or not failed, f"{entry.experiment.id} at {entry.scale} scale: {failed}"


def test_every_figure_has_one_row_and_a_section_of_its_own(tmp_path: Path) -> None:
    page = reproducing_md.page(tmp_path)
    for experiment in list_experiments():
        assert row(page, f"[{experiment.id}](#{experiment.id})")[1:3]
        assert page.count(f"\n## {experiment.id}\n") == 1
    assert "reproduced |" not in page
    assert row(page, "[fig2](#fig2)")[3:] == [
        "laptop",
        "5 runs, 0 traced",
        "0/9 reproduced, 9 not measured",
        "python-stdlib",
    ]


def test_reference_traces_give_costs_and_verdicts(figures: Path) -> None:
    page = reproducing_md.page(figures)
    ours = row(page, "[fig2](#fig2)")
    assert ours[2:5] == ["`ofe reproduce fig2 --scale laptop`", "laptop", "5 runs, 8 core-minutes"]
    assert ours[5] == "7/9 reproduced (3 by a bound for this scale), 2 direction only"
    section = page.partition("\n## fig2\n")[2].partition("\n## ")[0]
    assert row(section, "p1")[3:5] == ["119, at least 10 (20 x 0.5)", "reproduced"]
    assert row(section, "c5")[3:5] == ["0.9, not above 10 (100 x 0.1)", "direction only"]
    assert "reference traces of cp-preln (1 seed)" in section


def test_this_machines_runs_play_no_part(tmp_path: Path) -> None:
    before = reproducing_md.page(tmp_path / "figures")
    for run in resolve(load_experiment("fig2"), "laptop", fingerprint=lambda data: "").runs:
        sealed(Store(tmp_path / "home"), run)
    assert reproducing_md.page(tmp_path / "figures") == before


def test_the_picture_is_shown_where_there_is_one(figures: Path) -> None:
    assert "![" not in reproducing_md.page(figures)
    (figures / "laptop/fig2.png").write_bytes(b"")
    assert "](figures/laptop/fig2.png)" in reproducing_md.page(figures)


def test_writing_it_needs_no_torch() -> None:
    code = "import sys; from reproduce.report.reproducing_md import page; page(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CLONE)
