"""Display of the preparation of data: a progress bar on a terminal, and elsewhere a line for each finished part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from reproduce.cli.console import Ui
from reproduce.data.progress import Progress, Step


@contextmanager
def preparing(ui: Ui) -> Iterator[Progress]:
    """A context that yields the function to pass as `progress` when data are prepared. It shows progress on stderr."""
    if not ui.err.is_terminal:
        yield lambda line: None if isinstance(line, Step) else ui.tell(line)
        return
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bars(*columns, console=ui.err, transient=True) as bars:
        bar = bars.add_task("", total=None, visible=False)
        last = Step("", 0, None)

        def show(line: str) -> None:
            nonlocal last
            if not isinstance(line, Step):
                bars.update(bar, visible=False)
                ui.tell(line)
                return
            if line.total != last.total or line.done < last.done:  # another activity has begun
                bars.reset(bar, total=line.total)
            bars.update(bar, description=str(line), completed=line.done, visible=True)
            last = line

        yield show
