from __future__ import annotations

import csv
import io
import statistics
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

from reproduce.errors import SpecError
from reproduce.plots.table import Table, draw_table, tabulate, to_csv, to_markdown
from reproduce.plots.theme import theme

from .synthetic import OP, PRE_LN, Case, Run, case, words

RUNS = [
    Run("pre", "Pre-LN", block=PRE_LN, peak=60, seeds=3),
    Run("op", "OP (ours)", block=OP, peak=2, seeds=3),
]
COLUMNS: list[dict[str, Any]] = [
    {"title": "Post-QK", "config": "model.block.post_qk"},
    {"title": "Gain", "config": "model.block.attn_gain"},
    {"title": "Scaled", "published": "scaled"},
    {"title": "Peak kurtosis", "metric": "kurtosis", "layer": 2, "over": "peak", "published": "kurtosis"},
]
PUBLISHED = {"pre": {"scaled": "implicit", "kurtosis": None}, "op": {"scaled": True, "kurtosis": 4.5}}


def tab(columns: list[dict[str, Any]], runs: list[Run], **rest: Any) -> Case:
    return case({"kind": "table", "columns": columns}, runs, **({"id": "tab3", "title": "From Pre-Norm to OP"} | rest))


def made(columns: list[dict[str, Any]], runs: list[Run], **rest: Any) -> Table:
    one = tab(columns, runs, **rest)
    return tabulate(one.resolved, one.loaded, one.verdicts)


def peaks(one: Case, run: str, layer: str = "2") -> list[float]:
    frame = one.loaded.frame
    rows = frame[(frame.run == run) & (frame.metric == "kurtosis") & (frame.layer == layer)]
    return rows.groupby("seed")["value"].max().tolist()


def cells(table: Table, row: int = 0) -> dict[str, str]:
    return dict(zip(table.heads, table.rows[row], strict=True))


def test_ours_stand_beside_the_paper_s() -> None:
    one = tab(COLUMNS, RUNS, published=PUBLISHED)
    table = tabulate(one.resolved, one.loaded)
    assert table.heads == ["Run", "Post-QK", "Gain", "Scaled (paper)", "Peak kurtosis", "Peak kurtosis (paper)"]
    mean, spread = statistics.fmean(peaks(one, "pre")), statistics.stdev(peaks(one, "pre"))
    assert table.rows[0] == ["Pre-LN", "–", "1", "implicit", f"{mean:.2f} ± {spread:.2f}", "not readable"]
    assert table.rows[1][:4] == ["OP (ours)", "RMS", "0.3", "yes"]
    assert table.rows[1][5] == "4.5"


def test_a_run_the_paper_says_nothing_of_has_a_dash() -> None:
    assert cells(made(COLUMNS, RUNS))["Peak kurtosis (paper)"] == "–"


def test_one_seed_has_no_spread() -> None:
    one = tab(COLUMNS[3:], [Run("pre", "Pre-LN", peak=60)])
    table = tabulate(one.resolved, one.loaded)
    assert cells(table)["Peak kurtosis"] == f"{peaks(one, 'pre')[0]:.2f}"
    assert table.records[0]["Peak kurtosis s.d."] is None
    assert "standard deviation" not in table.words.caption


@pytest.mark.parametrize(("form", "minus", "title"), [("eq1", 0, "K"), ("variance", 1, "K (minus 1)")])
def test_the_form_of_kurtosis_is_taken_and_told(form: str, minus: int, title: str) -> None:
    one = tab([{"title": "K", "metric": "kurtosis", "layer": 2, "over": "peak", "form": form}], [Run("pre", "Pre-LN")])
    table = tabulate(one.resolved, one.loaded)
    assert cells(table)[title] == f"{peaks(one, 'pre')[0] - minus:.2f}"


def test_layers_and_digits() -> None:
    one = tab(
        [
            {"title": "mean", "metric": "kurtosis", "layer": "mean", "over": "init", "digits": 4},
            {"title": "out", "metric": "kurtosis", "layer": "unembed", "over": "peak", "digits": 0},
        ],
        [Run("pre", "Pre-LN")],
    )
    table = tabulate(one.resolved, one.loaded)
    frame = one.loaded.frame
    first = frame[(frame.metric == "kurtosis") & (frame.step == 0) & (frame.layer != "unembed")]
    assert cells(table) == {
        "Run": "Pre-LN",
        "mean": f"{first['value'].mean():.4f}",
        "out": f"{peaks(one, 'pre', 'unembed')[0]:.0f}",
    }


def test_final_train_loss_is_a_mean_as_for_the_claims() -> None:
    one = tab([{"title": "Loss", "metric": "train_loss", "digits": 6}], [Run("pre", "Pre-LN")])
    frame = one.loaded.frame
    loss = frame[(frame.split == "train") & (frame.metric == "loss")].sort_values("step")["value"]
    assert cells(tabulate(one.resolved, one.loaded))["Loss"] == f"{loss.tail(5).mean():.6f}"


def test_a_diverged_run_says_when_instead_of_a_number() -> None:
    columns = [*COLUMNS[3:], {"title": "Start", "metric": "kurtosis", "layer": 2, "over": "init"}]
    table = made(columns, [Run("naive", "Naive", fails_at=150)])
    assert cells(table)["Peak kurtosis"] == "diverged at step 150"
    assert float(cells(table)["Start"]) < 2, "what it was at initialisation is still a number"
    assert table.records[0]["Peak kurtosis"] is None


def test_seeds_that_diverged_are_left_out_and_noted() -> None:
    one = tab(COLUMNS[3:], [Run("naive", "Naive", seeds=3, fails_at=150)])
    table = tabulate(one.resolved, one.loaded)
    assert table.records[0]["Peak kurtosis n"] == 2
    assert table.records[0]["Peak kurtosis"] == pytest.approx(np.mean(peaks(one, "naive")[1:]))
    assert table.words.notes == ["Naive: 1 of 3 seeds diverged at step 150"]


def test_what_was_not_measured_and_not_trained_are_told_apart() -> None:
    columns = [{"title": "int8 perplexity", "metric": "w8a8_ppl"}, {"title": "LR", "config": "optimizer.lr"}]
    table = made(columns, [Run("pre", "Pre-LN"), Run("soap", "SOAP", trained=False)])
    assert table.rows == [["Pre-LN", "not measured", "0.001"], ["SOAP", "no trace yet", "0.001"]]
    assert table.words.notes == ["no trace yet of SOAP (seed 0)"]


def test_several_settings_get_a_column() -> None:
    runs = [Run("a", "OP", setting="languini-100m"), Run("b", "OP", setting="languini-320m")]
    table = made([{"title": "Perplexity", "metric": "eval_ppl"}], runs)
    assert [row[:2] for row in table.rows] == [["OP", "languini-100m"], ["OP", "languini-320m"]]
    assert table.heads[1] == "Setting"


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"title": "X", "config": "model.block.post_kq"}, "post_kq"),
        ({"title": "X", "config": "model.layers.deeper"}, "no model.layers.deeper"),
        ({"title": "X", "metric": "kurtosis", "layer": "third"}, "no layer third"),
        ({"title": "X", "metric": "kurtosis", "layer": "each"}, "no layer each"),
        ({"title": "X", "metric": "kurtosis"}, "kurtosis has a value in every layer"),
        ({"title": "X", "metric": "eval_ppl", "layer": 2}, "eval_ppl has no layers"),
    ],
)
def test_a_column_that_makes_no_sense_is_refused(column: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        made([column], RUNS)


# ---------------------------------------------------------------------------------------------------
# Ways to write it


def test_markdown_says_all_that_the_picture_says() -> None:
    text = to_markdown(made(COLUMNS, RUNS, published=PUBLISHED, verdicts=[("c1", "reproduced")]))
    lines = text.splitlines()
    assert lines[0] == "## tab3 · From Pre-Norm to OP"
    assert "**SUBSTITUTE DATA: Python 3.11 standard library**  " in lines
    assert "| Run | Post-QK | Gain | Scaled (paper) | Peak kurtosis | Peak kurtosis (paper) |" in lines
    assert "| :-- | --: | --: | --: | --: | --: |" in lines
    [row] = [line for line in lines if line.startswith("| Pre-LN")]
    assert row.startswith("| Pre-LN | – | 1 | implicit |")
    assert row.endswith("| not readable |")
    assert any("n = 3 seeds. Mean ± standard deviation over seeds." in line for line in lines)
    assert lines[-1] == "✓ 1 of 1 claims reproduced: c1"


def test_markdown_survives_a_bar_in_a_label() -> None:
    text = to_markdown(made(COLUMNS[:1], [Run("a", "A | B")]))
    assert "| A \\| B | – |" in text


def test_csv_has_full_numbers() -> None:
    one = tab(COLUMNS, RUNS, published=PUBLISHED)
    rows = list(csv.DictReader(io.StringIO(to_csv(tabulate(one.resolved, one.loaded)))))
    assert [row["run"] for row in rows] == ["pre", "op"]
    assert float(rows[0]["Peak kurtosis"]) == statistics.fmean(peaks(one, "pre"))
    assert float(rows[0]["Peak kurtosis s.d."]) == statistics.stdev(peaks(one, "pre"))
    assert rows[0]["Peak kurtosis n"] == "3"
    assert rows[0]["Post-QK"] == "none"
    assert (rows[0]["Peak kurtosis (paper)"], rows[1]["Peak kurtosis (paper)"]) == ("", "4.5")


def test_the_picture_shows_every_cell_without_overlap() -> None:
    long = {"title": "A heading that is far too long for one line", "metric": "kurtosis", "layer": 2, "over": "peak"}
    runs = [*RUNS, Run("naive", "A run with a name that goes on for quite a while indeed", fails_at=150)]
    table = made([*COLUMNS, long], runs, published=PUBLISHED)
    with theme():
        figure = draw_table(table)
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw_without_rendering()
        [ax] = [ax for sub in figure.subfigs for ax in sub.axes]
        boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in ax.texts]
    said = " ".join(words(figure).split())
    for text in (*table.heads, *(cell for row in table.rows for cell in row)):
        assert text in said
    for i, (one, a) in enumerate(boxes):
        assert figure.bbox.x0 <= a.x0, one
        assert a.x1 <= figure.bbox.x1, one
        shrunk = Bbox.from_extents(a.x0, a.y0 + 3, a.x1, a.y1 - 3)
        assert not [other for other, b in boxes[i + 1 :] if shrunk.overlaps(b)], one
