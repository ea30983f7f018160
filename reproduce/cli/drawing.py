"""From the traces at hand to a figure's files, its record and its verdicts: what `reproduce` and `plot` share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reproduce.choices import Scale
from reproduce.cli.console import Ui
from reproduce.cli.gallery import Record, write_record
from reproduce.cli.guests import Visitor, with_guests
from reproduce.cli.selection import Shelf, judged
from reproduce.errors import OfeError
from reproduce.machine import idle_cores, this_machine

if TYPE_CHECKING:
    from reproduce.plots.look import Look
    from reproduce.specs.runs import Resolved


FIGURES_OF_A_PROCESS = 4
"""Fewest figures for which another process is started to draw them: it needs seconds before it draws the first."""


@dataclass(frozen=True)
class Drawing:
    """How figures are drawn, and where to."""

    scale: Scale
    shelf: Shelf
    folder: Path
    formats: tuple[str, ...]
    reference: bool
    """Whether traces that came with the code fill the gaps."""
    look: Look | None = None
    """What the user chose beyond the spec."""
    guests: Sequence[Visitor] = ()
    """Lines that the spec does not name. Claims do not read them."""


def draw(ui: Ui, resolved: Resolved, drawing: Drawing) -> tuple[list[Path], Record]:
    """Draw one figure, judge its claims, and write both to a folder. Tells which runs the figure is drawn without.

    Raises:
        OfeError: there is no trace to draw, a trace is damaged, or the folder cannot be written.
    """
    paths, record, without = _draw(resolved, drawing)
    if without:
        ui.tell(without)
    return paths, record


def draw_all(ui: Ui, resolveds: Sequence[Resolved], drawing: Drawing, *, alone: bool = False) -> Iterator[list[Path]]:
    """The files of each figure in turn, drawn as `draw` does, on all cores that have nothing else to do.

    Args:
        alone: whether this process draws them all.

    Raises:
        OfeError: as `draw`, about the first figure that cannot be drawn; those after it may be missing too. Or a
            process was killed.
    """
    places = 1 if alone else len(resolveds) // FIGURES_OF_A_PROCESS
    if places > 1:
        places = min(places, idle_cores(this_machine()))
    if places <= 1:
        for resolved in resolveds:
            yield draw(ui, resolved, drawing)[0]
        return
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    # A process that is forked would share the locks of threads that it does not have.
    pool = ProcessPoolExecutor(places, get_context("spawn"), _leave_signals_to_the_command)
    try:
        for figure in [pool.submit(_draw_for_another, resolved, drawing) for resolved in resolveds]:
            paths, _, without = figure.result()
            if without:
                ui.tell(without)
            yield paths
    except BrokenProcessPool as error:
        hint = "memory may have run out: name fewer figures, so that one process draws them"
        raise OfeError("a process that drew figures was killed", hint=hint) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_signals_to_the_command() -> None:
    """Ctrl-C reaches all processes of a terminal. The command ends the others when they are done with a figure."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _draw_for_another(resolved: Resolved, drawing: Drawing) -> tuple[list[Path], Record, str]:
    """The same as `_draw`, with errors that another process can read."""
    try:
        return _draw(resolved, drawing)
    except OfeError as error:
        raise OfeError(error.message, hint=error.hint, exit_code=error.exit_code) from None


def _draw(resolved: Resolved, drawing: Drawing) -> tuple[list[Path], Record, str]:
    """Files and record of one figure, and a sentence about the runs that it is drawn without, or ""."""
    # Matplotlib reads this variable when it is imported and refuses a backend that this Python does not have, such as
    # that of a notebook around the command. Pictures go to files, which needs none.
    os.environ["MPLBACKEND"] = "agg"
    from reproduce.plots.rendering import render

    loaded, verdicts = judged(resolved, drawing.scale, reference=drawing.reference)
    shown, with_them = with_guests(resolved, loaded, drawing.guests)
    paths = render(shown, with_them, verdicts, drawing.folder, drawing.formats, drawing.look)
    names = ", ".join(dict.fromkeys(run.slug for run in loaded.missing))
    traces = drawing.shelf.traces(resolved, reference=drawing.reference)
    record = Record(traces, [verdict.to_json() for verdict in verdicts], [path.name for path in paths])
    write_record(drawing.folder, resolved, record)
    return paths, record, f"{resolved.experiment.id}: drawn without {names}" if names else ""
