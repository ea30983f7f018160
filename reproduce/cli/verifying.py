"""`ofe verify`: what became of the paper's claims, and the exit code that goes with it."""

from __future__ import annotations

import typer

from reproduce.choices import DEFAULT_SCALE
from reproduce.cli.console import Ui
from reproduce.cli.options import Archive, FromCache, Ids, Json, Overrides, ScaleOption, Seeds


def verify(
    ctx: typer.Context,
    ids: Ids,
    scale: ScaleOption = DEFAULT_SCALE,
    from_cache: FromCache = False,
    seeds: Seeds = None,
    overrides: Overrides = None,
    json: Json = False,
    archive: Archive = None,
) -> None:
    """Judge the claims on the traces at hand.

    The exit code is 1 if a claim is not reproduced, and 3 if none can be measured.
    """
    from reproduce.claims import exit_code
    from reproduce.cli.selection import judged, reading, resolve_all, select
    from reproduce.cli.verdicts import show_verdicts
    from reproduce.report.verdicts import tally

    ui: Ui = ctx.obj
    verdicts = []
    with reading(archive) as about:
        scale = scale if about is None else about["scale"]
        figures = select(ids, scale)
        for resolved in resolve_all(figures, scale, overrides=overrides or [], seeds=seeds):
            ours = judged(resolved, scale, reference=about is None)[1]
            verdicts += ours
            if not json:
                show_verdicts(ui, resolved.experiment.id, [verdict.to_json() for verdict in ours])
                ui.line()
    if json:
        ui.json([verdict.to_json() for verdict in verdicts])
    else:
        if len(figures) > 1:
            ui.prose(f"{len(figures)} figures and tables: {tally([verdict.to_json() for verdict in verdicts])}")
        if verdicts:
            ui.tell("claims that begin with c are the paper's, with p those of this project")
    raise typer.Exit(exit_code(verdicts))
