"""`ofe plot`: figures redrawn from the traces at hand, without training."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from reproduce.choices import DEFAULT_SCALE
from reproduce.cli.completion import complete_run
from reproduce.cli.console import Ui
from reproduce.cli.options import (
    WORK_REMAINS,
    Archive,
    Formats,
    FromCache,
    OptionalIds,
    Out,
    Overrides,
    ScaleOption,
    Seeds,
    formats,
    reproduce_command,
)
from reproduce.errors import OfeError


def plot(
    ctx: typer.Context,
    ids: OptionalIds = None,
    scale: ScaleOption = DEFAULT_SCALE,
    from_cache: FromCache = False,
    seeds: Seeds = None,
    overrides: Overrides = None,
    overlays: Annotated[
        list[str] | None,
        typer.Option(
            "--overlay",
            metavar="[LABEL=]RUN",
            autocompletion=complete_run,
            help="Also draw this run, by its key or slug; may be given several times. Claims do not read it.",
        ),
    ] = None,
    added: Annotated[
        list[str] | None,
        typer.Option(
            "--add",
            metavar="LABEL=FILE",
            help="Also draw a trace from elsewhere: CSV or JSON lines by step, layer and metric, or as the hooks log.",
        ),
    ] = None,
    style: Annotated[
        Literal["paper", "notebook", "talk"],
        typer.Option("--style", help="How large type and lines are beside the panels."),
    ] = "paper",
    layers: Annotated[
        str | None,
        typer.Option("--layers", metavar="N,...", help="Show these layers, such as 2,5,unembed."),
    ] = None,
    smooth: Annotated[
        int | None,
        typer.Option("--smooth", metavar="STEPS", min=1, help="Draw a running mean over so many steps; 1 for none."),
    ] = None,
    log_y: Annotated[bool | None, typer.Option("--logy/--liny", help="Make the y axes logarithmic or linear.")] = None,
    image_formats: Formats = "png",
    out: Out = None,
    archive: Archive = None,
) -> None:
    """Draw figures without training.

    They are drawn from finished runs, and from the reference traces that come with the code. A figure that is drawn
    otherwise than its spec says, or from an archive, goes to a folder of its own.
    """
    from reproduce.cli.drawing import Drawing, draw_all
    from reproduce.cli.gallery import figures_folder
    from reproduce.cli.guests import visitors
    from reproduce.cli.selection import Shelf, reading, resolve_all, select
    from reproduce.plots.look import Look, parse_layers
    from reproduce.specs.load import load_experiment

    ui: Ui = ctx.obj
    wanted = formats(image_formats)
    look = Look(style, parse_layers(layers), smooth, None if log_y is None else "log" if log_y else "linear")
    guests = visitors(ui, overlays or [], added or [])
    with reading(archive) as about:
        if about is not None:
            scale, ids = about["scale"], ids or about["figures"]
        changes = overrides or []
        ids = ids or ["all"]
        shelf = Shelf(scale)
        resolveds = resolve_all(select(ids, scale), scale, overrides=changes, seeds=seeds)
        trained = [one for one in resolveds if one.runs]
        if ids == ["all"]:
            resolveds = [one for one in resolveds if one.is_shown(shelf.key)]
            if trained and not any(one.runs for one in resolveds):
                first = reproduce_command([trained[0].experiment.id], scale, seeds, changes)
                ui.tell(f"no figure has traces of most of its runs at {scale} scale; `{first}` trains those of one")
        for resolved in resolveds:
            if resolved.runs and not any(shelf.key(run) for run in resolved.runs):
                figure = resolved.experiment.id
                name = next((name for name in ids if name != "all" and load_experiment(name).id == figure), figure)
                hint = f"train its runs first: {reproduce_command([name], scale, seeds, changes)}"
                raise OfeError(f"{figure} has no trace at {scale} scale", hint=hint, exit_code=WORK_REMAINS)
        otherwise = [*changes, *look.words(), *(f"with={one.guest.name}" for one in guests)]
        otherwise += [f"from={archive.name}"] if archive is not None else []
        folder = figures_folder(out, scale, otherwise, seeds)
        drawing = Drawing(scale, shelf, folder, tuple(wanted), reference=about is None, look=look, guests=guests)
        for paths in draw_all(ui, resolveds, drawing, alone=about is not None):  # an archive is open in this process
            for path in paths:
                ui.line(str(path))
