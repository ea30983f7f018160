"""`ofe report`: all figures, curves and verdicts in one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reproduce.choices import DEFAULT_SCALE, SCALES
from reproduce.cli.console import Ui
from reproduce.cli.options import OptionalIds
from reproduce.errors import OfeError

if TYPE_CHECKING:
    from reproduce.cli.selection import Shelf
    from reproduce.report.items import Verdicts
    from reproduce.specs.runs import Resolved


def report(
    ctx: typer.Context,
    ids: OptionalIds = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The page to write, in place of one of that name.")
    ] = Path("report.html"),
) -> None:
    """Write one page with figures, interactive curves and verdicts.

    It shows each figure at every scale that has traces. The file needs no server and no network.
    """
    from reproduce.cli.selection import store
    from reproduce.report.html import page
    from reproduce.report.items import items
    from reproduce.store.atomic import write_text
    from reproduce.store.home import writing_output
    from reproduce.units import count, size

    ui: Ui = ctx.obj
    if out.is_dir():
        raise OfeError(f"{out} is a folder", hint=f"ofe report --out {out / 'report.html'}", exit_code=2)
    shelves: dict[str, Shelf] = {}
    wanted = _wanted(ids or ["all"], shelves)
    made = []
    for number, item in enumerate(items(wanted, store(), lambda one: _drawn(ui, one, shelves[one.scale])), start=1):
        made.append(item)
        if number % 10 == 0:
            ui.tell(f"{number} of {len(wanted)}")
    text = page(made)
    with writing_output(out, "--out"):
        write_text(out, text)
    ui.line(str(out))
    ui.tell(f"{count(len(made), 'item')}, {size(len(text.encode()))}")


def _wanted(ids: list[str], shelves: dict[str, Shelf]) -> list[Resolved]:
    """The figures at each scale where they are shown; at the default scale where they are shown at none.

    A figure that a user names is shown wherever it has a trace. The smoke scale only checks the plumbing, so that it is
    shown of figures that a user names and that have nothing else.
    """
    from reproduce.cli.selection import Shelf, experiments, has_scale, resolve_all

    figures = experiments(ids)
    found: dict[str, list[Resolved]] = {figure.id: [] for figure in figures}
    for scale in SCALES:
        shelves[scale] = Shelf(scale)
        if scale == "smoke" and ids == ["all"]:
            continue  # it checks the plumbing and shows nothing
        for resolved in resolve_all([figure for figure in figures if has_scale(figure, scale)], scale):
            named = ids != ["all"] and any(shelves[scale].key(run) for run in resolved.runs)
            if named or resolved.is_shown(shelves[scale].key):
                found[resolved.experiment.id].append(resolved)
    for figure in figures:
        real = [resolved for resolved in found[figure.id] if resolved.scale != "smoke"]
        found[figure.id] = real or found[figure.id]
        if not found[figure.id] and has_scale(figure, DEFAULT_SCALE):
            found[figure.id] = resolve_all([figure], DEFAULT_SCALE)
    return [resolved for figure in figures for resolved in found[figure.id]]


def _drawn(ui: Ui, resolved: Resolved, shelf: Shelf) -> tuple[Path, Verdicts] | None:
    """The picture of a figure and its verdicts, or None where nothing can be drawn.

    A picture that is missing or out of date is drawn anew.
    """
    from reproduce.cli.drawing import Drawing, draw
    from reproduce.cli.gallery import default_folder, find_drawn
    from reproduce.store.home import ensure_folder

    if found := find_drawn(resolved, shelf.traces(resolved)):
        folder, record = found
        path = folder / f"{resolved.experiment.id}.png"
        if path.is_file():
            return path, record.verdicts
    if resolved.runs and not any(shelf.key(run) for run in resolved.runs):
        return None
    if not resolved.runs and resolved.experiment.kind != "diagram":
        return None
    folder = ensure_folder(default_folder(resolved.scale), "OFE_HOME")
    paths, record = draw(ui, resolved, Drawing(resolved.scale, shelf, folder, ("png",), reference=True))
    return paths[0], record.verdicts
