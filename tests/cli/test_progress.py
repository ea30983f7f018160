"""What is shown of trainings while they run."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from reproduce.cli.console import Ui
from reproduce.cli.progress import PlainLines, cells, job_table, watching, words
from reproduce.jobs.queue import Job, JobState
from reproduce.store.runs import RunFolder

PROGRESS = {"step": 400, "steps": 2000, "loss": 5.1234, "tokens_per_s": 12345.6, "peak_kurtosis": 3.14159, "eta_s": 190}


class Run:
    """As much of a run as a display reads."""

    def __init__(self, slug: str) -> None:
        self.slug = self.key = slug


def job(state: JobState, slug: str = "toy-smoke-s0", **fields: Any) -> Job:
    return Job(cast(Any, Run(slug)), RunFolder(Path(slug)), state, **fields)


def make_ui(*, terminal: bool = False) -> tuple[Ui, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=120, highlight=False, markup=False)
    return Ui(Console(file=io.StringIO()), console), stream


def test_a_running_job_is_told_with_all_that_is_known() -> None:
    told = ", ".join(words(job("running", progress=PROGRESS)))
    assert told == "running, 400/2000, loss 5.123, 12,346 tokens/s, peak kurtosis 3.142, 3 min left"


def test_what_is_not_finite_or_not_known_does_not_break_the_display() -> None:
    assert cells({}) == ("", "", "", "")
    assert cells({"loss": "nan", "tokens_per_s": 1.0, "peak_kurtosis": "inf", "eta_s": "inf"}) == (
        "nan",
        "1",
        "inf",
        "",
    )


def test_a_failure_comes_with_its_error_and_a_foreign_process_with_its_name() -> None:
    assert words(job("failed", error="no text")) == ["failed", "no text"]
    assert "process 7 on there" in words(job("elsewhere", progress={"pid": 7, "host": "there"}))


def test_plain_lines_tell_changes_at_once_and_progress_now_and_then() -> None:
    ui, stream = make_ui()
    lines = PlainLines(ui, every_s=1000)
    lines([job("waiting")])
    for _ in range(3):
        lines([job("running")])
    lines([job("sealed")])
    assert stream.getvalue() == "[1/1] toy-smoke-s0: running\n[1/1] toy-smoke-s0: sealed\n"


def test_plain_lines_tell_of_all_running_jobs_in_one_line() -> None:
    ui, stream = make_ui()
    lines = PlainLines(ui, every_s=0)
    several = [job("running", f"run{n}", progress=PROGRESS) for n in range(6)]
    lines([*several, job("sealed", "done")])
    *changes, last = stream.getvalue().splitlines()
    assert len(changes) == 7
    named = ", ".join(f"run{n} 400/2000 loss 5.123" for n in range(4))
    assert last == f"1 of 7 sealed; {named}, and 2 more; 3 min left for these"
    stream.truncate(0)
    stream.seek(0)
    lines([job("sealed", f"run{n}") for n in range(6)])
    assert "left for" not in stream.getvalue()


def test_a_narrow_terminal_leaves_out_the_speed() -> None:
    jobs = [job("running", progress=PROGRESS)]
    titles = [[column.header for column in job_table(jobs, 5, wide=wide).columns] for wide in (True, False)]
    assert [title for title in titles[0] if title not in titles[1]] == ["tokens/s"]


def test_a_terminal_gets_a_table_and_anything_else_lines() -> None:
    plain, _ = make_ui()
    with watching(plain) as observe:
        assert isinstance(observe, PlainLines)
    ui, stream = make_ui(terminal=True)
    with watching(ui) as observe:
        observe([job("running", progress=PROGRESS), job("failed", "toy-smoke-s1", error="no text")])
    for text in ("400/2000", "5.123", "failed: no text", "0 of 2 runs sealed"):
        assert text in stream.getvalue()


def test_a_table_shows_what_matters_first_when_not_all_fits() -> None:
    jobs = [job("sealed", f"toy-{n}") for n in range(30)] + [job("running", "now"), job("failed", "bad", error="x")]
    table = job_table(jobs, rows=2)
    assert table.row_count == 2
    assert list(table.columns[0].cells) == ["bad", "now"]
