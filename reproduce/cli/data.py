"""`ofe data`: list the sources of data, prepare their data before runs need them, and check what is prepared."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import typer

from reproduce.choices import DEFAULT_SCALE, Scale
from reproduce.cli.console import Ui
from reproduce.cli.options import Ids, Json, Offline, Overrides, ScaleOption

if TYPE_CHECKING:
    from reproduce.config import DataConfig

app = typer.Typer(no_args_is_help=True, help="List, prepare and check the data that runs train on.")


@app.command("list")
def list_sources(ctx: typer.Context, json: Json = False) -> None:
    """List the registered sources of data, and what each of them needs."""
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
def prepare(
    ctx: typer.Context,
    ids: Ids,
    scale: ScaleOption = DEFAULT_SCALE,
    overrides: Overrides = None,
    offline: Offline = False,
) -> None:
    """Prepare all data that figures train on.

    Their runs then need no network. A preparation that was stopped continues after the last part that it reported as
    done.
    """
    from reproduce.cli.preparing import preparing
    from reproduce.data import open_data, prepared_folder

    ui: Ui = ctx.obj
    for data in _datas(ids, scale, overrides, to_train=True):
        with preparing(ui) as progress:
            open_data(data, progress=progress, offline=offline)
        ui.line(str(prepared_folder(data)))


@app.command("check")
def check(ctx: typer.Context, ids: Ids, scale: ScaleOption = DEFAULT_SCALE, overrides: Overrides = None) -> None:
    """Check every byte of prepared data.

    The command also says what was left out of the data. The exit code is 1 if data are damaged or not prepared.
    """
    from reproduce.data import open_data, prepared_folder
    from reproduce.data.prepared import verified_meta
    from reproduce.data.progress import from_meta
    from reproduce.errors import OfeError

    ui: Ui = ctx.obj
    lacking = 0
    for data in _datas(ids, scale, overrides, to_train=False):
        if not data.fingerprint or not prepared_folder(data).is_dir():
            lacking += 1
            ui.line(f"{data.source}: not prepared")
            continue
        try:
            meta = verified_meta(prepared_folder(data), whole=True)
            opened = open_data(data, offline=True)
        except OfeError as error:
            lacking += 1
            ui.error(error)
        else:
            ui.line(f"{data.source}: prepared, {opened.description}, {prepared_folder(data)}")
            for one in from_meta(meta):
                ui.line(f"  {one}")
    if lacking:
        changes = [word for change in overrides or () for word in ("--set", change)]
        ui.tell(f"\nhint: {shlex.join(['ofe', 'data', 'prepare', *ids, '--scale', scale, *changes])}")
    raise typer.Exit(int(lacking > 0))


def _datas(ids: list[str], scale: Scale, overrides: list[str] | None, *, to_train: bool) -> list[DataConfig]:
    """The data that the runs of these figures train on, each once."""
    from reproduce.cli.selection import resolve_all, select

    resolveds = resolve_all(select(ids, scale), scale, overrides=overrides or (), to_train=to_train)
    trainings = [run.training for one in resolveds for run in (*one.runs, *one.extra) if run.training is not None]
    return list(dict.fromkeys(training.data for training in trainings))
