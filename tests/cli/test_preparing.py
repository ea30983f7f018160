"""What is shown of data while they are prepared."""

from __future__ import annotations

from reproduce.cli.preparing import preparing
from reproduce.data.progress import Step

from .test_progress import make_ui


def test_without_a_terminal_every_safe_part_is_a_line_and_nothing_else_is() -> None:
    ui, stream = make_ui()
    with preparing(ui) as progress:
        progress("looking up a/b")
        for done in range(5):
            progress(Step(f"tokenising {done}", done, 5))
        progress("tokenised 5 training documents")
    assert stream.getvalue() == "looking up a/b\ntokenised 5 training documents\n"


def test_a_terminal_shows_a_bar_of_what_is_done() -> None:
    ui, stream = make_ui(terminal=True)
    with preparing(ui) as progress:
        progress("looking up a/b")
        progress(Step("tokenising 40 of 160 training documents", 40, 160))
        progress("tokenised 160 training documents")
        progress(Step("tokenising 3 held-out documents [7]", 3, None))
    shown = stream.getvalue()
    assert "looking up a/b" in shown
    assert "tokenised 160 training documents" in shown
    assert "tokenising 3 held-out documents [7]" in shown


def test_the_bar_begins_again_with_another_task() -> None:
    ui, stream = make_ui(terminal=True)
    with preparing(ui) as progress:
        progress(Step("training", 160, 160))
        progress(Step("held-out", 1, 4))
    assert " 25%" in stream.getvalue()
