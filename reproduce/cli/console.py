"""The one pair of consoles: data go to stdout, progress and messages to stderr.

Every command gets it as `ctx.obj`, and nothing else prints. Colour only repeats what a word says; rich leaves it out
where `NO_COLOR` is set or the output is not a terminal.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from reproduce.processes import READER_LEFT

if TYPE_CHECKING:
    from reproduce.errors import OfeError

PIPE_WIDTH = 160
"""Width in characters of a table that is not shown on a terminal, unless the variable COLUMNS says another."""
LEAST_WIDTH = 40
"""Fewer characters are not believed: cells would be cut to a letter. Editors and serial lines state 0 or 1."""
STYLES = {
    "reproduced": "green",
    "direction only": "yellow",
    "not reproduced": "red",
    "not measured": "dim",
    "sealed": "green",
    "running": "cyan",
    "resumable": "yellow",
    "interrupted": "yellow",
    "failed": "red",
}
"""Colours of verdicts and states."""


class Screen(Console):
    """A console of rich that ends the command with the code of the other ways to lose the reader of its output."""

    def on_broken_pipe(self) -> None:
        try:
            super().on_broken_pipe()
        except SystemExit as end:
            raise SystemExit(READER_LEFT) from end


@dataclass(frozen=True)
class Ui:
    """Where a command writes."""

    out: Console
    err: Console

    def json(self, value: Any) -> None:
        """Print data for programs on stdout. A number that is not finite is printed as a text."""
        from reproduce.store.json_text import without_nonfinite

        self.out.file.write(json.dumps(without_nonfinite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def line(self, text: str = "") -> None:
        """Print data for people on stdout. A line is never folded, so that a path stays whole."""
        self.out.print(text, soft_wrap=True)

    def table(self, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print rows under titles on stdout."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        for title in titles:
            table.add_column(title, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
        self.out.print(table)

    def prose(self, text: str) -> None:
        """Print sentences on stdout, folded between words."""
        self.out.print(text)

    def heading(self, text: str) -> None:
        """Print the title of a group on stdout."""
        self.out.print(Text(text, style="bold"))

    def columns(
        self, rows: Iterable[Sequence[str]], *, widths: Sequence[int], titles: Sequence[str] | None = None
    ) -> None:
        """Print rows on stdout whose last column takes the rest of the line and is folded within it.

        Args:
            widths: least width in characters of each column but the last; a column grows with its longest cell.
            titles: the line above the rows, if any.
        """
        from rich.table import Table

        table = Table(box=None, pad_edge=False, padding=0, show_header=titles is not None, header_style="dim")
        for index, width in enumerate((*widths, 0)):
            title = titles[index] if titles else ""
            table.add_column(title, no_wrap=index < len(widths), min_width=width or 12, overflow="fold")
        for row in rows:
            *first, last = row
            cells = [Text(f"{cell}  ", style=STYLES.get(cell.strip(), "")) for cell in first]
            table.add_row(*cells, Text(last))
        self.out.print(table)

    def tell(self, text: str) -> None:
        """Say on stderr what is going on."""
        self.err.print(text, soft_wrap=True)

    def error(self, error: OfeError) -> None:
        """Say on stderr what went wrong and what to do about it."""
        label = Text("error", style="bold red")
        self.err.print(Text.assemble(label, f": {error.message}"), soft_wrap=True)
        if error.hint:
            self.err.print(f"\nhint: {error.hint}", soft_wrap=True)


def ui() -> Ui:
    """Consoles on the present stdout and stderr of this process."""
    return Ui(_console(stderr=False), _console(stderr=True))


def _console(*, stderr: bool) -> Console:
    console = Screen(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal and not re.fullmatch(r"0*[1-9][0-9]{0,6}", os.environ.get("COLUMNS", "")):
        console.width = PIPE_WIDTH
    console.width = max(LEAST_WIDTH, console.width)
    return console
