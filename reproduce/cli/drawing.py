"""From the traces at hand to a figure's files, its record and its verdicts: what `reproduce` and `plot` share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reproduce.choices import Scale
from reproduce.cli.console import Ui
from reproduce.cli.gallery import Record, write_record
from reproduce.cli.guests import Visitor, with_guests
from reproduce.cli.selection import Shelf, judged

if TYPE_CHECKING:
    from reproduce.plots.look import Look
    from reproduce.specs.runs import Resolved


def draw(
    ui: Ui,
    resolved: Resolved,
    scale: Scale,
    shelf: Shelf,
    folder: Path,
    formats: Sequence[str],
    *,
    reference: bool,
    look: Look | None = None,
    guests: Sequence[Visitor] = (),
) -> tuple[list[Path], Record]:
    """Draw one figure, judge its claims, and write both to `folder`. Tells which runs the figure is drawn without.

    Args:
        reference: whether traces that came with the code fill the gaps.
        look: what the user chose beyond the spec.
        guests: lines that the spec does not name. Claims do not read them.

    Raises:
        OfeError: there is no trace to draw, a trace is damaged, or the folder cannot be written.
    """
    # Matplotlib reads this variable when it is imported and refuses a backend that this Python does not have, such as
    # that of a notebook around the command. Pictures go to files, which needs none.
    os.environ["MPLBACKEND"] = "agg"
    from reproduce.plots.rendering import render

    loaded, verdicts = judged(resolved, scale, reference=reference)
    shown, with_them = with_guests(resolved, loaded, guests)
    paths = render(shown, with_them, verdicts, folder, formats, look)
    if loaded.missing:
        names = ", ".join(dict.fromkeys(run.slug for run in loaded.missing))
        ui.tell(f"{resolved.experiment.id}: drawn without {names}")
    traces = shelf.traces(resolved, reference=reference)
    record = Record(traces, [verdict.to_json() for verdict in verdicts], [path.name for path in paths])
    write_record(folder, resolved, record)
    return paths, record
