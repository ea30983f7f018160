from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import pytest
from PIL import Image

from reproduce.choices import IMAGE_FORMATS
from reproduce.errors import OfeError
from reproduce.plots.rendering import render
from reproduce.store.frame import Loaded

from .synthetic import KURTOSIS, Case, Run, case, facts_of, in_frame, trace

LINES = {"kind": "lines", "y": [KURTOSIS], "layers": [2]}
TABLE = {"kind": "table", "columns": [{"title": "Peak", "metric": "kurtosis", "layer": 2, "over": "peak"}]}
DIAGRAM = {"kind": "diagram", "block": "op"}
RUNS = [Run("pre", "Pre-LN", peak=60, seeds=2), Run("op", "OP", peak=2, fails_at=100)]


def rendered(one: Case, folder: Path, **rest: Any) -> list[Path]:
    return render(one.resolved, one.loaded, one.verdicts, folder, **rest)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "figures" / "laptop"


def test_a_figure_is_one_small_png_named_after_it(folder: Path) -> None:
    [path] = rendered(case(LINES, RUNS, id="fig2"), folder)
    assert path == folder / "fig2.png"
    with Image.open(path) as image:
        assert image.width > 800
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
    assert path.stat().st_size < 150_000


def test_a_table_is_a_picture_markdown_and_csv(folder: Path) -> None:
    paths = rendered(case(TABLE, RUNS, id="tab3"), folder)
    assert [path.name for path in paths] == ["tab3.png", "tab3.md", "tab3.csv"]
    assert "| OP | diverged at step 100 |" in (folder / "tab3.md").read_text(encoding="utf-8")
    assert (folder / "tab3.csv").read_text(encoding="utf-8").startswith("run,label,setting,Peak,")


def test_a_diagram_needs_no_trace(folder: Path) -> None:
    assert [path.name for path in rendered(case(DIAGRAM, [], id="fig3"), folder)] == ["fig3.png"]


@pytest.mark.parametrize("plot", [LINES, TABLE, DIAGRAM], ids=["lines", "table", "diagram"])
@pytest.mark.parametrize("kind", IMAGE_FORMATS)
def test_equal_data_give_equal_bytes(plot: dict[str, Any], kind: str, tmp_path: Path) -> None:
    runs = [] if plot is DIAGRAM else RUNS
    first = rendered(case(plot, runs), tmp_path / "a", formats=(kind,))
    again = rendered(case(plot, runs), tmp_path / "b", formats=(kind,))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert b"Date>" not in first[0].read_bytes()
    assert b"CreationDate" not in first[0].read_bytes()


@pytest.mark.parametrize("label", ["$x_{$", "from $5 to $6", "\\frac$"])
def test_a_dollar_sign_in_a_label_is_one(label: str, tmp_path: Path) -> None:
    one = case(LINES, [Run("pre", label, peak=60)], id="fig2")
    [path] = rendered(one, tmp_path, formats=("svg",))
    assert f"<!-- {label} -->" in path.read_text(encoding="utf-8")


def test_other_data_give_another_picture(tmp_path: Path) -> None:
    [one] = rendered(case(LINES, RUNS), tmp_path / "a")
    [other] = rendered(case(LINES, [replace(RUNS[0], peak=61), RUNS[1]]), tmp_path / "b")
    assert one.read_bytes() != other.read_bytes()


def test_formats_on_demand(folder: Path) -> None:
    paths = rendered(case(LINES, RUNS), folder, formats=("svg", "pdf"))
    assert [path.suffix for path in paths] == [".svg", ".pdf"]
    assert paths[0].read_bytes().startswith(b"<?xml")
    assert paths[1].read_bytes().startswith(b"%PDF")


def test_an_unknown_format_is_refused_before_anything_is_written(folder: Path) -> None:
    with pytest.raises(OfeError, match="unknown figure format 'jpg'") as caught:
        rendered(case(LINES, RUNS), folder, formats=("png", "jpg"))
    assert caught.value.exit_code == 2
    assert caught.value.hint == "choose from png, svg, pdf"
    assert not folder.exists()


@pytest.mark.parametrize("plot", [LINES, TABLE], ids=["lines", "table"])
def test_without_any_trace_it_says_what_to_run(plot: dict[str, Any], folder: Path) -> None:
    with pytest.raises(OfeError, match="fig5 has no trace at laptop scale") as caught:
        rendered(case(plot, [Run("pre", "Pre-LN", trained=False)]), folder)
    assert caught.value.exit_code == 1
    assert "as soon as one of its runs has been trained" in (caught.value.hint or "")
    assert not folder.exists()


def test_runs_that_only_claims_read_leave_no_mark(tmp_path: Path) -> None:
    one = case(LINES, RUNS)
    other = case(LINES, [Run("soap", "SOAP"), Run("sgd", "SGD", trained=False)])
    extra, absent = other.resolved.runs
    records = in_frame(trace(Run("soap", "SOAP"), 3, 400, 0), extra)
    loaded = Loaded(
        frame=pd.concat([one.loaded.frame, records], ignore_index=True),
        facts=one.loaded.facts | {("soap", 0): facts_of(extra, None, substitute=True, reference=True)},
        missing=[absent],
    )
    with_extra = replace(one, resolved=replace(one.resolved, extra=other.resolved.runs), loaded=loaded)
    [plain], [read] = rendered(one, tmp_path / "a"), rendered(with_extra, tmp_path / "b")
    assert plain.read_bytes() == read.read_bytes()


def test_a_failure_leaves_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [path] = rendered(case(LINES, RUNS), folder)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OfeError, match="no space is left") as caught:
        rendered(case(LINES, RUNS[:1]), folder)
    assert caught.value.hint == "free some space, or set --out to a folder on another disk"
    assert path.read_bytes() == before
    assert [child.name for child in folder.iterdir()] == [path.name]


def test_the_caller_s_settings_stay(folder: Path) -> None:
    with matplotlib.rc_context({"font.size": 21.0}):
        rendered(case(LINES, RUNS), folder)
        assert matplotlib.rcParams["font.size"] == 21.0


def test_plotting_never_imports_torch_and_the_package_imports_little() -> None:
    script = "import sys, reproduce.plots; early = set(sys.modules); import reproduce.plots.rendering; "
    script += "late = set(sys.modules); "
    script += "print('matplotlib' in early, 'pandas' in early, 'matplotlib' in late, 'torch' in late)"
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert found.stdout.split() == ["False", "False", "True", "False"]
