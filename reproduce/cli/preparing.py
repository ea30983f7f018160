"""Display of the preparation of data: a progress bar on a terminal, and elsewhere a line for each finished part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from reproduce.cli.console import Ui
from reproduce.data.progress import Progress, Step
from reproduce.errors import OfeError
from reproduce.job_config import MeasureConfig

if TYPE_CHECKING:
    from reproduce.specs.resolve import ResolvedRun


def prepare_for(ui: Ui, runs: Sequence[ResolvedRun], offline: bool) -> None:
    """Prepare the data of all runs, each once, before several workers need them at the same time.

    Raises:
        OfeError: the data cannot be had, or a measurement asks for more held-out examples than there are. That is told
            now, since its parent may train for hours first.
    """
    from reproduce.data import held_out_examples, open_data, prepared_folder

    # A job on a text reads that text, and none of the prepared examples.
    runs = [run for run in runs if getattr(run.config, "text", None) is None]
    for data in dict.fromkeys(run.training.data for run in runs):
        if not prepared_folder(data).is_dir():
            ui.tell(f"preparing {data.source}")
            with preparing(ui) as progress:
                open_data(data, progress=progress, offline=offline)
        measured = [run for run in runs if isinstance(run.config, MeasureConfig) and run.training.data == data]
        if not measured:
            continue
        available = held_out_examples(open_data(data, offline=True))
        for run in measured:
            assert isinstance(run.config, MeasureConfig)
            if run.config.examples > available:
                raise OfeError(
                    f"{run.slug} measures {run.config.examples:,} examples, and {available:,} are held out for it",
                    hint=f"ask for at most {available} examples",
                    exit_code=2,
                )


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
