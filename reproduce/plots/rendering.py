"""From the traces of an experiment to the files of its figure or table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reproduce.choices import check_image_formats
from reproduce.errors import OfeError
from reproduce.plots.diagram import draw_diagram
from reproduce.plots.export import image_bytes, settle
from reproduce.plots.lines import draw_lines
from reproduce.plots.look import Look
from reproduce.plots.methods import cells, draw_methods, methods_csv, methods_markdown, methods_words
from reproduce.plots.table import draw_table, tabulate, to_csv, to_markdown
from reproduce.plots.theme import theme
from reproduce.specs.schema import DiagramPlot, LinePlot, MethodsPlot, TablePlot
from reproduce.store.atomic import write_bytes
from reproduce.store.frame import Loaded
from reproduce.store.home import ensure_folder, explain_os_errors

if TYPE_CHECKING:
    from reproduce.claims import Verdict
    from reproduce.specs.runs import Resolved


def render(
    resolved: Resolved,
    loaded: Loaded,
    verdicts: Sequence[Verdict],
    out_dir: Path,
    formats: Sequence[str] = ("png",),
    look: Look | None = None,
) -> list[Path]:
    """Draw an experiment and write `<out_dir>/<id>.<format>`; a table, and one of methods, also as Markdown and CSV.

    Equal traces give equal bytes. Each file appears in full or not at all.

    Args:
        loaded: the traces of `resolved`; those that only its claims read are not drawn.
        verdicts: what is printed below the picture, in this order.
        formats: some of `IMAGE_FORMATS`.
        look: what the user chose beyond the spec.

    Returns:
        The paths of the files, the pictures first.

    Raises:
        OfeError: a format is unknown, there is no trace to draw, or the folder cannot be written.
        SpecError: the spec draws two curves as one line, or asks for what its runs do not have.
    """
    check_image_formats(formats)
    experiment = resolved.experiment
    plot = experiment.plot
    shown = _shown(resolved, loaded)
    if not isinstance(plot, DiagramPlot) and not shown.facts:
        raise OfeError(
            f"{experiment.id} has no trace at {resolved.scale} scale",
            hint="it can be drawn as soon as one of its runs has been trained",
        )

    look = look or Look()
    if not isinstance(plot, LinePlot) and (resolved.guests or look != Look(style=look.style)):
        look.plot_of(resolved)  # which says why not
    files: dict[str, bytes] = {}
    with theme(look.line_width, look.dots):
        match plot:
            case LinePlot():
                figure = draw_lines(resolved, shown, verdicts, look)
            case TablePlot():
                table = tabulate(resolved, shown, verdicts)
                figure = draw_table(table)
                files = {"md": to_markdown(table).encode(), "csv": to_csv(table).encode()}
            case MethodsPlot():
                found = cells(resolved, shown)
                around = methods_words(resolved, shown, verdicts, found)
                figure = draw_methods(found, around)
                files = {"md": methods_markdown(found, around).encode(), "csv": methods_csv(found).encode()}
            case DiagramPlot():
                figure = draw_diagram(experiment, plot, verdicts)
        settle(figure)
        images = {kind: image_bytes(figure, kind) for kind in formats}
    ensure_folder(out_dir, "--out")
    paths = []
    for kind, content in {**images, **files}.items():
        path = out_dir / f"{experiment.id}.{kind}"
        with explain_os_errors(path, "--out"):
            write_bytes(path, content)
        paths.append(path)
    return paths


def _shown(resolved: Resolved, loaded: Loaded) -> Loaded:
    """`loaded` without the runs that only claims read."""
    names = {run.name for run in resolved.lines}
    return Loaded(
        frame=loaded.frame[loaded.frame["run"].isin(names)],
        facts={key: fact for key, fact in loaded.facts.items() if key[0] in names},
        missing=[run for run in loaded.missing if run.name in names],
    )
