"""The page of `ofe report`: what stands in it, and what a browser makes of it."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reproduce.job_config import QuantiseConfig
from reproduce.report.html import packed, page
from reproduce.report.items import POINTS, Item, item
from reproduce.specs.load import load_experiment
from reproduce.specs.resolve import resolve
from reproduce.specs.runs import Resolved
from reproduce.store.frame import COLUMNS, Loaded
from tests.plots.synthetic import KURTOSIS, OP, PRE_LN, Case, Run, case, facts_of, in_frame
from tests.report.chromium import CHROMIUM, keep, print_pdf, visit

ROOT = Path(__file__).parents[2]
EVIL = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2> & \"quotes\" 'too'"
PLOT: dict[str, Any] = {"kind": "lines", "y": [KURTOSIS], "panels": ["run"], "series": "layer"}

chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


def figure(id: str, title: str = "Kurtosis", label: str = "Pre-LN", steps: int = 2000) -> Case:
    runs = [Run("ln", label, block=PRE_LN), Run("op", "OP", block=OP)]
    return case(PLOT, runs, id=id, title=title, steps=steps)


@pytest.fixture(scope="module")
def items() -> list[Item]:
    made = []
    for one in (figure("fig2"), figure("fig5", EVIL, EVIL)):
        made.append(item(one.resolved, one.loaded, None))
    claim = {"id": "c1", "says": EVIL, "asked": "a < b", "measured": "1", "published": "", "verdict": "not reproduced"}
    claim["decided"] = "by a bound for this scale"
    judged = {"claims": [claim], "state": "not reproduced", "verdicts": ["direction only", "not reproduced"]}
    made[1] = replace(made[1], about={**made[1].about, **judged})
    return made


def test_the_page_asks_nothing_of_any_server(items: list[Item]) -> None:
    text = page(items)
    assert "Content-Security-Policy\" content=\"default-src 'none'; img-src data:" in text
    assert re.findall(r'(?:src|href)="(?!#|data:)([^"]*)"', text) == []
    assert "@import" not in text
    assert "url(" not in text


def test_hostile_names_stay_text(items: list[Item]) -> None:
    text = page(items)
    assert "<script>window.hacked" not in text
    assert "<img src=x" not in text
    assert text.count("&lt;/script&gt;&lt;script&gt;window.hacked=1") >= 3


def test_packed_curves_have_no_letter_that_html_reads_and_are_a_quarter_of_their_json() -> None:
    told = packed({EVIL: ["\u2028", "<!--"]})
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", told)
    assert json.loads(zlib.decompress(base64.b64decode(told))) == {EVIL: ["\u2028", "<!--"]}
    one = figure("fig2", steps=80_000)
    charts = item(one.resolved, one.loaded, None).charts
    assert len(packed(charts)) < len(json.dumps(charts)) / 2


def test_the_hyperparameters_of_a_setting_stand_on_the_page_once(items: list[Item]) -> None:
    """`items` are two figures of one setting at one scale."""
    text = page(items)
    (place,) = {place for one in items for place in one.recipes}
    assert text.count(f'<details id="{place}">') == 1
    assert text.count(f'<a href="#{place}">') == len(items)
    rows = items[0].recipes[place]
    assert {"model.width", "optimizer.lr"} <= {row["name"] for row in rows}
    folded = text[text.index(f'<details id="{place}">') :].partition("</details>")[0]
    assert re.findall(r'<th scope="row">([^<]*)</th>', folded) == [row["name"] for row in rows]


def test_the_papers_numbers_stand_beside_ours() -> None:
    columns = [{"title": "Peak", "metric": "kurtosis", "layer": 2, "over": "peak", "published": "peak"}]
    one = case({"kind": "table", "columns": columns}, [Run("op", "OP", block=OP)], id="tab1")
    spec = one.resolved.experiment.model_copy(update={"published": {"op": {"peak": 20}, "kurtosis_peak_lt": 30}})
    made = item(replace(one.resolved, experiment=spec), one.loaded, None)
    heads, (row,) = made.about["table"]["heads"], made.about["table"]["rows"]
    assert heads == ["Run", "Peak", "Peak (paper)"]
    assert row[0] == "OP"
    assert float(row[1].split()[0]) > 0
    assert row[2] == "20"
    assert made.about["published"] == [("kurtosis peak below", "30")]
    text = page([made])
    assert '<td class="paper">20</td>' in text
    assert "The paper states: kurtosis peak below 30." in text


def quantised(resolved: Resolved) -> Loaded:
    """What quantisations of the runs would have recorded: kurtosis in two layers, and perplexities."""
    parts, facts = [], {}
    for number, run in enumerate(resolved.runs):
        values = {"w8a8_ppl": 30.0 + number, "w8a8_ppl_std": 0.5, "w6a6_ppl": 60.0, "w4a4_ppl": 900.0}
        rows = [("probe", "kurtosis", "1", 2.0 + number), ("probe", "kurtosis", "2", 4.0 + number)]
        rows += [("eval", "loss", "", 3.0), *(("eval", name, "", value) for name, value in values.items())]
        trace = pd.DataFrame(rows, columns=["split", "metric", "layer", "value"]).assign(step=run.config.last_step)
        parts.append(in_frame(trace, run))
        facts[run.name, run.seed] = replace(
            facts_of(run, None, substitute=True, reference=False),
            provenance={"kind": "quantise", "seconds": 90.0, "threads": 2},
        )
    return Loaded(pd.concat(parts, ignore_index=True).astype(COLUMNS), facts, [])


def test_a_table_of_quantisations_has_its_perplexities_beside_the_papers_and_its_verdicts() -> None:
    resolved = resolve(load_experiment("v2-tab2"), "laptop", fingerprint=lambda data: "")
    assert all(isinstance(run.config, QuantiseConfig) for run in resolved.runs)
    made = item(resolved, quantised(resolved), None)
    heads, rows = made.about["table"]["heads"], made.about["table"]["rows"]
    assert len(rows) == len(resolved.runs)
    of = dict(zip(heads, rows[1], strict=True))
    assert (of["Kurtosis"], float(of["W8A8"]), float(of["W4A4"])) == ("4.0", 31.0, 900.0)
    assert float(of["Perplexity"]) == pytest.approx(math.exp(3.0), rel=1e-3)
    assert of["W8A8 (paper)"]
    assert "not measured" not in {claim["verdict"] for claim in made.about["claims"] if claim["id"] == "c1"}
    assert made.about["cost"].endswith("runs, 48 core-minutes after training")
    assert made.charts == []
    text = page([made])
    assert '<article id="v2-tab2-laptop"' in text
    assert "<td>900" in text


MEASURED = """\
id: measured
title: Weights of a run, measured
setting: codeparrot-130m
runs: [{name: cp-op, measured: {at: [0, 0.5, 1]}}]
plot: {kind: lines, y: [{metric: kurtosis}], layers: [2]}
"""


def test_a_figure_of_measured_weights_has_a_curve_through_its_measurements(tmp_path: Path) -> None:
    (tmp_path / "measured.yaml").write_text(MEASURED)
    resolved = resolve(load_experiment(str(tmp_path / "measured.yaml")), "laptop", fingerprint=lambda data: "")
    steps = [run.config.last_step for run in resolved.runs]
    parts = [
        in_frame(
            pd.DataFrame({"step": [step], "split": "probe", "metric": "kurtosis", "layer": "2", "value": 1.5 + number}),
            run,
        )
        for number, (step, run) in enumerate(zip(steps, resolved.runs, strict=True))
    ]
    facts = {(run.name, run.seed): facts_of(run, None, substitute=True, reference=False) for run in resolved.runs}
    made = item(resolved, Loaded(pd.concat(parts, ignore_index=True).astype(COLUMNS), facts, []), None)
    ((series,),) = (chart["series"] for chart in made.charts)
    assert (series["x"], series["y"]) == ([0, 2500, 5000], [1.5, 2.5, 3.5])
    assert 'data-charts="measured-laptop"' in page([made])


def test_a_curve_is_thinned_and_keeps_its_ends_and_its_peak() -> None:
    one = figure("fig2", steps=80_000)
    (chart,) = item(one.resolved, one.loaded, None).charts
    rows = one.loaded.frame
    for series in chart["series"]:
        run = "ln" if series["run"] == "Pre-LN" else "op"
        layer = series["layer"].removeprefix("layer ").replace("unembedding", "unembed")
        values = rows[(rows["run"] == run) & (rows["layer"] == layer) & (rows["metric"] == "kurtosis")]
        assert len(series["x"]) == len(series["y"]) <= POINTS + 2
        assert (series["x"][0], series["x"][-1]) == (values["step"].min(), values["step"].max())
        assert max(series["y"]) == pytest.approx(values["value"].max() - 1, rel=1e-3)
    assert (chart["label"], chart["scale"], chart["x"]) == ("kurtosis − 1", "log", "training step")


def test_each_item_has_its_place_and_its_command(items: list[Item]) -> None:
    text = page(items)
    for id in ("fig2", "fig5"):
        assert f'<article id="{id}-laptop"' in text
        assert f'<a href="#{id}-laptop">{id}</a>' in text
        assert f"<code>ofe reproduce {id} --scale laptop</code>" in text


SCRIPT = """
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const shown = () => [...document.querySelectorAll("article")].filter((a) => !a.hidden).map((a) => a.id);
const told = { all: shown() };
const search = document.getElementById("search");
const type = (text) => { search.value = text; search.dispatchEvent(new Event("input")); };
type("fig2 kurtosis"); told.searched = shown();
type("nothing like it"); told.none = [shown().length, document.getElementById("shown").textContent];
type("");
const state = document.getElementById("state");
state.value = "direction only"; state.dispatchEvent(new Event("change")); told.direction = shown();
state.value = "not reproduced"; state.dispatchEvent(new Event("change")); told.filtered = shown();
told.rows = [...document.querySelectorAll("tr[data-item]")].filter((r) => !r.hidden).length;
state.value = ""; state.dispatchEvent(new Event("change"));
for (const a of document.querySelectorAll("article")) { a.scrollIntoView(); await wait(300); }  // as a reader would
// Curves are unpacked by other threads, for which the browser's virtual time does not wait. This loop does such work.
const unpacking = () => new Response(
  new Blob(["x".repeat(1e5)]).stream().pipeThrough(new CompressionStream("deflate"))).arrayBuffer();
for (let n = 0; n < 2000 && document.querySelectorAll(".chart canvas").length < 2; n++) {
  await unpacking(); await wait(1);
}
told.charts = document.querySelectorAll(".chart canvas").length;
const button = document.querySelector(".chart fieldset button");
button.click(); told.toggled = button.getAttribute("aria-pressed");
const log = [...document.querySelectorAll(".chart button")].find((b) => b.textContent === "Log axis");
log.click(); told.log = log.getAttribute("aria-pressed");
const over = document.querySelector(".u-over"), box = over.getBoundingClientRect();
over.dispatchEvent(new MouseEvent("mouseenter", { clientX: box.x + 50, clientY: box.y + 50, bubbles: true }));
over.dispatchEvent(new MouseEvent("mousemove", { clientX: box.x + 50, clientY: box.y + 50, bubbles: true }));
await wait(100);
told.readout = document.querySelector(".readout").textContent;
const theme = document.getElementById("theme"), before = document.documentElement.dataset.theme;
theme.click(); told.theme = before !== document.documentElement.dataset.theme; theme.click();
const place = document.querySelector('p a[href*="-at-"]').getAttribute("href");
const folded = document.querySelector(place);
told.folded = folded.open; location.hash = place; await wait(50); told.unfolded = folded.open;
told.hacked = window.hacked ?? null;
told.requests = performance.getEntriesByType("resource").map((r) => r.name).filter((n) => !n.startsWith("data:"));
told.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
told.unnamed = [...document.querySelectorAll("button, input, select, img, a")].filter((e) =>
  !(e.textContent.trim() || e.alt || e.labels?.length || e.ariaLabel)).length;
told.troubles = troubles;
window.scrollTo(0, 0);
return told;
"""


@chromium
@pytest.mark.parametrize(("width", "dark"), [(1100, False), (500, True)])
def test_a_browser_opens_it_filters_it_and_draws_its_curves(
    items: list[Item], tmp_path: Path, width: int, dark: bool
) -> None:
    told = visit(page(items), SCRIPT, tmp_path, width=width, dark=dark)
    assert told["troubles"] == []
    assert "failed" not in told
    assert told["requests"] == []
    assert told["hacked"] is None
    assert told["all"] == ["fig2-laptop", "fig5-laptop"]
    assert told["searched"] == ["fig2-laptop"]
    assert told["none"] == [0, "0 shown"]
    assert told["filtered"] == ["fig5-laptop"]
    assert told["direction"] == ["fig5-laptop"], "a claim need not have the weakest verdict of its figure"
    assert told["rows"] == 1
    assert told["charts"] == 2
    assert (told["toggled"], told["log"], told["theme"]) == ("false", "false", True)
    assert re.search(r"layer \d.* · training step [\d,.]+ · [\d.]+", told["readout"])
    assert (told["folded"], told["unfolded"]) == (False, True), "a link to a setting unfolds it"
    assert told["wide"] <= 0, "the page must not scroll sideways"
    assert told["unnamed"] == 0
    assert (tmp_path / "page.png").stat().st_size > 10_000
    keep(tmp_path / "page.png", f"report-{width}-{'dark' if dark else 'light'}.png")


@chromium
def test_it_prints_with_every_figure(items: list[Item], tmp_path: Path) -> None:
    """The text of a PDF is compressed, so that its pages are counted; curves need a screen and are left out."""
    file = print_pdf(page(items), tmp_path)
    pages = re.findall(rb"/Type\s*/Page\b", file.read_bytes())
    assert 1 <= len(pages) <= 6
    keep(file, "report.pdf")
