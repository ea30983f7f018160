"""The figure and the table of the methods lab, on made-up quantisations of two models."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pandas as pd
import pytest

from reproduce.plots.methods import Cell, cells, draw_methods, methods_csv, methods_markdown, methods_words
from reproduce.plots.quantised import spaced
from reproduce.plots.theme import theme
from reproduce.quantise.methods.block_floating_point import bits_per_value
from reproduce.quantise.rows import ROWS
from reproduce.store.frame import COLUMNS

from .synthetic import Case, Run, case, legend, panels, words

PLOT = {"kind": "methods", "rows": ["tensor", "smoothquant", "keys-64"]}
REFUSAL = "its heads have 16 channels, no multiple of 64"
NUMBERS = {"one": {"tensor": 30.0, "smoothquant": 12.0}, "two": {"tensor": 10.1, "smoothquant": 10.05}}
KURTOSIS = {"one": 40.0, "two": 2.0}


@pytest.fixture(scope="module")
def made() -> Case:
    """Two models of perplexity 10, each with kurtosis in two blocks, two rows, and one that does not apply."""
    made = case(PLOT, [Run("one", "Pre-LN"), Run("two", "OP")], id="methods")
    records = []
    for run, rows in NUMBERS.items():
        about = {"run": run, "label": run, "setting": "codeparrot-130m", "seed": 0, "step": 400}
        records.append(about | {"split": "eval", "metric": "loss", "layer": "", "value": 2.302585092994046})
        for layer, factor in (("1", 0.5), ("2", 1.5), ("unembed", 9.0)):
            value = factor * KURTOSIS[run]
            records.append(about | {"split": "probe", "metric": "kurtosis", "layer": layer, "value": value})
        for row, ppl in rows.items():
            for name, value in (("ppl", ppl), ("weight_bits", 8.02), ("flops", 1536.0)):
                records.append(about | {"split": "rows", "metric": f"{row}/{name}", "layer": "", "value": value})
    facts = {
        key: replace(fact, provenance=fact.provenance | {"quantised": {"rows": {"keys-64": {"refused": REFUSAL}}}})
        for key, fact in made.loaded.facts.items()
    }
    frame = pd.DataFrame(records)[list(COLUMNS)].astype(COLUMNS)
    return replace(made, loaded=replace(made.loaded, frame=frame, facts=facts))


@pytest.fixture(scope="module")
def found(made: Case) -> list[Cell]:
    return cells(made.resolved, made.loaded)


def test_a_cell_for_each_model_and_row(found: list[Cell]) -> None:
    assert [(cell.run, cell.row) for cell in found] == [(run, row) for run in NUMBERS for row in PLOT["rows"]]
    for cell in found:
        assert cell.kurtosis == pytest.approx(KURTOSIS[cell.run])  # the blocks alone, not the unembedding's input
        assert cell.float_ppl == pytest.approx(10)
        wanted = NUMBERS[cell.run].get(cell.row)
        assert cell.ppl == wanted
        assert cell.ratio == (None if wanted is None else pytest.approx(wanted / 10))
        assert cell.refused == ("" if wanted is not None else REFUSAL)


def test_points_stand_at_kurtosis_and_ratio_in_the_panel_of_their_family(made: Case, found: list[Cell]) -> None:
    with theme():
        figure = draw_methods(found, methods_words(made.resolved, made.loaded, [], found))
    shown = {ax.get_title(): ax for ax in panels(figure)}
    assert list(shown) == ["linear layers, W8A8: which choice loses", "methods against outliers, W8A8"]
    drawn = shown["linear layers, W8A8: which choice loses"].lines
    points = sorted(float(number) for line in drawn if len(line.get_xydata()) == 1 for number in line.get_xydata()[0])
    assert points == pytest.approx([1.01, 2, 3, 40])
    assert {"Pre-LN", "OP", "per tensor", "SmoothQuant, per tensor"} <= set(legend(figure))
    assert words(figure).replace("\n", " ").count(REFUSAL) == 1, "one reason is told once for all models"


def test_the_table_has_bits_flops_and_reasons(made: Case, found: list[Cell]) -> None:
    text = methods_markdown(found, methods_words(made.resolved, made.loaded, [], found))
    assert "| Pre-LN | 40.0 | full precision | 32 | 0 | 10.00 | 1 |" in text
    assert "| Pre-LN | 40.0 | per tensor | 8.02 | 1,536 | 30.00 | 3 |" in text
    assert f"| OP | 2.0 | {ROWS['keys-64'].label} | – | – | does not apply | – |" in text
    rows = list(csv.DictReader(io.StringIO(methods_csv(found))))
    assert [float(row["ratio"]) for row in rows if row["row"] == "smoothquant"] == pytest.approx([1.2, 1.005])
    assert {row["refused"] for row in rows if row["row"] == "keys-64"} == {REFUSAL}


def test_a_model_without_a_trace_has_no_cells(made: Case) -> None:
    loaded = replace(made.loaded, facts={key: fact for key, fact in made.loaded.facts.items() if key[0] == "two"})
    assert {cell.run for cell in cells(made.resolved, loaded)} == {"two"}


@pytest.mark.parametrize("size", [64, 32, 16, 8])
def test_rows_of_keys_name_their_bits(size: int) -> None:
    assert f"keys of {bits_per_value(size):g} bits," in ROWS[f"keys-{size}"].label


def test_a_point_beyond_the_axis_stands_at_its_border_and_is_told(made: Case, found: list[Cell]) -> None:
    far = [replace(cell, ppl=5e7) if cell.row == "tensor" and cell.run == "one" else cell for cell in found]
    around = methods_words(made.resolved, made.loaded, [], far)
    assert "per tensor, of Pre-LN lies beyond the axis: 5e+06 times" in around.notes
    assert not any("beyond the axis" in note for note in methods_words(made.resolved, made.loaded, [], found).notes)
    with theme():
        first = panels(draw_methods(far, around))[0]
    drawn = [line.get_xydata()[0] for line in first.lines if len(line.get_xydata()) == 1]
    assert sorted(float(y) for _, y in drawn) == pytest.approx([1.01, 1000])
    assert first.get_ylim()[1] > 1000


def test_ticks_leave_room_for_their_labels() -> None:
    every = [0.9, 1, 1.1, 1.2, 1.5, 2, 3, 5, 10, 30, 100, 300, 1000]
    assert spaced(every[:4], 1.2 / 0.9) == every[:4]
    assert spaced(every, 1000 / 0.9) == [1, 2, 5, 10, 30, 100, 300, 1000]
