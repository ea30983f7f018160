"""`ofe data`: the sources that runs train on, and preparing their text ahead of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from reproduce.cli.console import Ui
from reproduce.cli.options import DEFAULT_SCALE, Ids, Json, Offline, ScaleOption

if TYPE_CHECKING:
    from reproduce.config import TextData
    from reproduce.specs.schema import Scale

app = typer.Typer(no_args_is_help=True, help="The data that runs train on: list the sources, prepare and check them.")


@app.command("list")
def list_sources(ctx: typer.Context, json: Json = False) -> None:
    """The registered sources and what each needs."""
    from reproduce.data import SOURCES

    ui: Ui = ctx.obj
    rows = [
        {
            "name": source.name,
            "kind": source.kind,
            "description": source.description,
            "network": source.needs_network,
            "path": "needed" if source.needs_path else "taken" if source.takes_path else "none",
        }
        for source in SOURCES.values()
    ]
    if json:
        ui.json(rows)
        return
    ui.table(
        ["source", "kind", "network", "data.path", "what it is"],
        [
            [str(r["name"]), str(r["kind"]), "yes" if r["network"] else "no", str(r["path"]), str(r["description"])]
            for r in rows
        ],
    )


@app.command("prepare")
def prepare(ctx: typer.Context, ids: Ids, scale: ScaleOption = DEFAULT_SCALE, offline: Offline = False) -> None:
    """Prepare all that the runs of these figures train on, so that they can train without a network."""
    from reproduce.data import open_text, prepared_folder

    ui: Ui = ctx.obj
    for data in _texts(ids, scale, to_train=True):
        open_text(data, progress=ui.tell, offline=offline)
        ui.line(str(prepared_folder(data)))


@app.command("check")
def check(ctx: typer.Context, ids: Ids, scale: ScaleOption = DEFAULT_SCALE) -> None:
    """Whether the data of these figures are prepared and every byte is whole. Exit code 1 if not."""
    from reproduce.data import open_text, prepared_folder
    from reproduce.errors import OfeError

    ui: Ui = ctx.obj
    lacking = 0
    for data in _texts(ids, scale, to_train=False):
        if not data.fingerprint or not prepared_folder(data).is_dir():
            lacking += 1
            ui.line(f"{data.source}: not prepared")
            continue
        try:
            corpus = open_text(data, offline=True)
        except OfeError as error:
            lacking += 1
            ui.error(error)
        else:
            ui.line(f"{data.source}: prepared, {corpus.description}, {prepared_folder(data)}")
    if lacking:
        ui.tell(f"\nhint: ofe data prepare {' '.join(ids)} --scale {scale}")
    raise typer.Exit(int(lacking > 0))


def _texts(ids: list[str], scale: Scale, *, to_train: bool) -> list[TextData]:
    """The different texts that the runs of these figures train on."""
    from reproduce.cli.corridor import resolve_all, select
    from reproduce.config import TextData

    resolveds = resolve_all(select(ids, scale), scale, to_train=to_train)
    datas = dict.fromkeys(run.config.data for one in resolveds for run in (*one.runs, *one.extra))
    return [data for data in datas if isinstance(data, TextData)]
