"""`ofe plot`: figures redrawn from the traces at hand, without training."""

from __future__ import annotations

import typer

from reproduce.choices import DEFAULT_SCALE
from reproduce.cli.console import Ui
from reproduce.cli.options import (
    WORK_REMAINS,
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
    image_formats: Formats = "png",
    out: Out = None,
) -> None:
    """Redraw figures without training. From the cache, and from the traces that come with the code."""
    from reproduce.cli.drawing import draw
    from reproduce.cli.gallery import figures_folder
    from reproduce.cli.selection import Shelf, resolve_all, select

    ui: Ui = ctx.obj
    wanted = formats(image_formats)
    changes = overrides or []
    named = bool(ids) and ids != ["all"]
    shelf = Shelf(scale)
    resolveds = resolve_all(select(ids or ["all"], scale), scale, overrides=changes, seeds=seeds)
    if not named:
        complete = [one for one in resolveds if all(shelf.key(run) for run in one.runs)]
        resolveds = [one for one in complete if one.runs or one.experiment.kind == "diagram"]
        if not any(one.runs for one in resolveds):
            ui.tell(f"no figure has all its traces at {scale} scale; `ofe reproduce fig2 --scale {scale}` trains one")
    for resolved in resolveds:
        if resolved.runs and not any(shelf.key(run) for run in resolved.runs):
            name = resolved.experiment.id
            again = reproduce_command([name], scale, seeds, changes)
            hint = f"train its runs first: {again}"
            raise OfeError(f"{name} has no trace at {scale} scale", hint=hint, exit_code=WORK_REMAINS)
    folder = figures_folder(out, scale, changes, seeds)
    for resolved in resolveds:
        paths, _ = draw(ui, resolved, scale, shelf, folder, wanted, reference=True)
        for path in paths:
            ui.line(str(path))
