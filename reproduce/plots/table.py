"""Tables with one row for each run, our numbers beside the paper's (`TablePlot`).

A table is made once, as texts and as records, and then written in three ways: as an image, as Markdown and as CSV.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from pydantic import BaseModel

from reproduce.claims.quantity import read
from reproduce.claims.ruling import NotMeasured
from reproduce.errors import SpecError
from reproduce.metrics.table import layered
from reproduce.plots.badges import badges
from reproduce.plots.captions import caption, divergence, facts_of, missing_notes, seed_counts, words
from reproduce.plots.names import value_label
from reproduce.plots.sheet import Words, body_width, pitch, sheet
from reproduce.plots.theme import INK, QUIET, text_width, wrap
from reproduce.specs.load import cautions
from reproduce.specs.schema import Column, Quantity, TablePlot

if TYPE_CHECKING:
    from reproduce.claims import Verdict
    from reproduce.specs.runs import Resolved, ResolvedRun
    from reproduce.store.frame import Loaded

_NO_TRACE, _NOT_MEASURED, _NOT_READABLE = "no trace yet", "not measured", "not readable"
_WITHOUT_VALUE = ("–", _NO_TRACE, _NOT_MEASURED, _NOT_READABLE)
_SIZE = 8.0
_GAP = 0.24
"""Space between two columns in inches."""
_HEAD_WIDTH, _CELL_WIDTH, _NAME_WIDTH = 1.0, 1.35, 2.2
"""Width in inches at which a heading, a cell and the name of a run are wrapped."""


@dataclass(frozen=True)
class Table:
    """What a table says: texts for people, and records for programs."""

    heads: list[str]
    rows: list[list[str]]
    """The texts of each row, one for each of `heads`."""
    records: list[dict[str, Any]]
    """One for each row, for the CSV: numbers are unrounded and come with their spread and count."""
    words: Words


def tabulate(resolved: Resolved, loaded: Loaded, verdicts: Sequence[Verdict] = ()) -> Table:
    """The table of an experiment. Every run of its spec has a row, also one that has no trace.

    Raises:
        SpecError: a column names a part of the configuration, or a layer, that a run does not have.
    """
    plot = resolved.experiment.plot
    assert isinstance(plot, TablePlot)
    runs = list({run.name: run for run in reversed(resolved.runs)}.values())[::-1]
    with_setting = len({run.setting for run in runs}) > 1
    heads = ["Run", *(["Setting"] if with_setting else []), *(head for c in plot.columns for head in _heads(c))]
    rows, records = [], []
    for run in runs:
        row = [run.label, *([run.setting] if with_setting else [])]
        record: dict[str, Any] = {"run": run.name, "label": run.label, "setting": run.setting}
        for column in plot.columns:
            texts, values = _cells(column, run, resolved, loaded)
            row += texts
            record |= values
        rows.append(row)
        records.append(record)
    said = [caption(resolved, loaded)]
    if max(seed_counts(loaded).values()) > 1:
        said.append("Mean ± standard deviation over seeds.")
    around = words(
        resolved.experiment,
        verdicts,
        badges(resolved.scale, loaded.facts.values()),
        " ".join([". ".join(said).removesuffix(".") + ".", *cautions(resolved.experiment, resolved.scale)]),
        [*missing_notes(loaded.missing), *_partly_diverged(loaded)],
    )
    return Table(heads, rows, records, around)


# ---------------------------------------------------------------------------------------------------
# Cells


def _heads(column: Column) -> list[str]:
    """The headings of one column of the spec: ours, the paper's, or both."""
    name = column.title
    if column.form == "variance" and "− 1" not in name and "- 1" not in name:
        name = f"{name} (minus 1)"
    ours = [name] if column.metric or column.config else []
    return [*ours, f"{name} (paper)"] if column.published else ours


def _cells(column: Column, run: ResolvedRun, resolved: Resolved, loaded: Loaded) -> tuple[list[str], dict[str, Any]]:
    """The texts of one run under the headings of a column, and the same as entries of its record."""
    texts: list[str] = []
    values: dict[str, Any] = {}
    if column.config is not None:
        value = _configured(column.config, run)
        texts.append(value_label(value))
        values[column.title] = value
    if column.metric is not None:
        text, numbers = _measured(column, run, loaded)
        texts.append(text)
        values |= numbers
    if column.published is not None:
        printed = resolved.experiment.published.get(run.name)
        known = isinstance(printed, Mapping) and column.published in printed
        value = printed[column.published] if isinstance(printed, Mapping) and known else None
        texts.append("–" if not known else _NOT_READABLE if value is None else _printed(value))
        values[f"{column.title} (paper)"] = value
    return texts, values


def _printed(value: Any) -> str:
    """A value of the paper with the digits that the paper prints: 16.0 stays 16.0."""
    return str(value) if isinstance(value, float) else value_label(value)


def _configured(path: str, run: ResolvedRun) -> Any:
    """The value at a dotted path of the run's configuration."""
    value: Any = run.training
    for name in path.split("."):
        if not isinstance(value, BaseModel) or name not in type(value).model_fields:
            raise SpecError(f"{run.name} has no {path} in its configuration", hint=f"{name} is not there")
        value = getattr(value, name)
    return value


def _measured(column: Column, run: ResolvedRun, loaded: Loaded) -> tuple[str, dict[str, Any]]:
    """One reduced metric of a run: its mean over the seeds that trained to their end, or why there is none."""
    facts = {seed: fact for (name, seed), fact in loaded.facts.items() if name == run.name}
    found = [value for seed in facts if (value := _of_seed(column, run, seed, loaded)) is not None]
    mean = statistics.fmean(found) if found else None
    spread = statistics.stdev(found) if len(found) > 1 and all(map(math.isfinite, found)) else None
    values = {column.title: mean, f"{column.title} s.d.": spread, f"{column.title} n": len(found)}
    if mean is None:
        gone = divergence(list(facts.values()))
        return gone or (_NOT_MEASURED if facts else _NO_TRACE), values
    text = f"{mean:,.{column.digits}f}"
    return text if spread is None else f"{text} ± {spread:,.{column.digits}f}", values


def _of_seed(column: Column, run: ResolvedRun, seed: int, loaded: Loaded) -> float | None:
    """The value of one seed, read as a claim reads it, so that table and verdict agree; None if it has none."""
    assert column.metric is not None
    if layered(column.metric) == (column.layer is None):
        has = "has no layers" if column.layer is not None else "has a value in every layer"
        raise SpecError(f"column {column.title!r}: {column.metric} {has}", hint="give or drop its layer: 2, mean, ...")
    if not isinstance(column.layer, int) and column.layer not in (None, "unembed", "mean", "max"):
        raise SpecError(
            f"column {column.title!r} has no layer {column.layer}", hint="give a block's number, unembed, mean or max"
        )
    wanted = Quantity.model_validate(
        {"metric": column.metric, "run": run.name, "layer": column.layer, "over": column.over}
    )
    facts = {(run.name, seed): loaded.facts[run.name, seed]}
    of_seed = loaded.frame[(loaded.frame["run"] == run.name) & (loaded.frame["seed"] == seed)]
    try:
        value = read(wanted, of_seed, facts, variance=column.form == "variance")
    except NotMeasured:
        return None
    return float(value["value"].item())


def _partly_diverged(loaded: Loaded) -> list[str]:
    """Notes on runs of which some seeds diverged. Where all did, the cells say so."""
    notes = []
    for name in seed_counts(loaded):
        facts = facts_of(name, loaded)
        if any(fact.failed for fact in facts) and not all(fact.failed for fact in facts):
            notes.append(f"{facts[0].label}: {divergence(facts)}")
    return notes


# ---------------------------------------------------------------------------------------------------
# Three ways to write it


def draw_table(table: Table) -> Figure:
    """The table as a picture, ruled as in a book; call inside `theme()`."""
    heads = [wrap(head, _HEAD_WIDTH, _SIZE, bold=True) for head in table.heads]
    limits = [_NAME_WIDTH, *[_CELL_WIDTH] * (len(heads) - 1)]
    rows = [[wrap(text, limit, _SIZE) for text, limit in zip(row, limits, strict=True)] for row in table.rows]
    columns = [
        max(
            *(text_width(line, _SIZE, bold=True) for line in head),
            *(text_width(line, _SIZE) for row in rows for line in row[i]),
        )
        for i, head in enumerate(heads)
    ]
    line = pitch(_SIZE)
    head_height = max(map(len, heads)) * line + 0.12
    row_heights = [max(map(len, row)) * line + 0.09 for row in rows]
    height = head_height + sum(row_heights) + 0.2

    figure, body = sheet(table.words, sum(columns) + _GAP * len(columns) + 0.3, height)
    ax = body.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    width = body_width(figure)
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    stretch = (width - 0.1 - sum(columns)) / len(columns)
    lefts = [0.05 + sum(columns[:i]) + stretch * i for i in range(len(columns))]

    def write(lines: Sequence[str], column: int, top: float, *, bold: bool = False) -> None:
        quiet = " ".join(lines) in _WITHOUT_VALUE
        x = lefts[column] if column == 0 else lefts[column] + columns[column] / 2
        for i, text in enumerate(lines):
            ax.text(
                x,
                top + (i + 0.78) * line,
                text,
                size=_SIZE,
                weight="bold" if bold else "normal",
                color=QUIET if quiet else INK,
                ha="left" if column == 0 else "center",
                va="baseline",
            )

    def rule(y: float, thickness: float, colour: str = INK) -> None:
        ax.plot([0.02, width - 0.02], [y, y], color=colour, linewidth=thickness, solid_capstyle="butt")

    top = 0.08
    rule(top, 1.0)
    for column, lines in enumerate(heads):
        write(lines, column, top + head_height - 0.06 - len(lines) * line, bold=True)
    top += head_height
    rule(top, 0.6)
    for i, (row, row_height) in enumerate(zip(rows, row_heights, strict=True)):
        for column, lines in enumerate(row):
            write(lines, column, top + 0.045)
        top += row_height
        rule(top, *((0.3, "#d8d8d8") if i < len(rows) - 1 else (1.0,)))
    return figure


def to_markdown(table: Table) -> str:
    """The table as GitHub shows it, with everything that the picture says around it."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    words = table.words
    parts = [
        f"## {words.title}",
        "  \n".join(f"**{badge.text}**" if badge.tone == "warning" else badge.text for badge in words.badges),
        "\n".join([line(table.heads), line([":--", *["--:"] * (len(table.heads) - 1)]), *map(line, table.rows)]),
        words.caption,
        *([f"Notes: {'; '.join(words.notes)}."] if words.notes else []),
        *(["\n\n".join(chip.text for chip in words.chips)] if words.chips else []),
    ]
    return "\n\n".join(parts) + "\n"


def to_csv(table: Table) -> str:
    """The records of the table as CSV. Numbers are unrounded, and a cell without one is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(table.records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.records)
    return out.getvalue()
