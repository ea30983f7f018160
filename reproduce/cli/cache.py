"""`ofe cache`: list, verify, remove and copy run folders, and read what they hold."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reproduce.choices import DEFAULT_SCALE, Scale
from reproduce.cli.completion import complete_run
from reproduce.cli.console import Ui
from reproduce.cli.options import Json, Overrides, ScaleOption, Seeds, Yes, reproduce_command

if TYPE_CHECKING:
    from reproduce.store.runs import RunFolder

app = typer.Typer(no_args_is_help=True, help="List, check, copy and remove the folders of runs.")

Keys = Annotated[list[str] | None, typer.Argument(metavar="KEY", help="Keys or slugs of runs; by default all.")]


@app.command("dir")
def show_dir(ctx: typer.Context) -> None:
    """Print the folder of all state (OFE_HOME)."""
    from reproduce.store.home import ofe_home

    ui: Ui = ctx.obj
    ui.line(str(ofe_home()))


@app.command("list")
def list_runs(ctx: typer.Context, json: Json = False) -> None:
    """List every run folder with its state and size."""
    from reproduce.cli.selection import store
    from reproduce.units import count, size

    ui: Ui = ctx.obj
    rows: list[dict[str, Any]] = [
        {"key": one.key, "slug": one.slug, "state": one.state, "bytes": _bytes(one.path), "path": str(one.path)}
        for one in store().list()
    ]
    if json:
        ui.json(rows)
        return
    ui.table(["run", "key", "state", "size"], [[r["slug"], r["key"], r["state"], size(r["bytes"])] for r in rows])
    ui.tell(f"\n{count(len(rows), 'run folder')}, {size(sum(row['bytes'] for row in rows))}, in {store().runs}")


@app.command("verify")
def verify_runs(ctx: typer.Context, keys: Keys = None) -> None:
    """Compare every byte of the sealed runs with its checksum.

    The exit code is 1 if a run is damaged.
    """
    from reproduce.errors import OfeError
    from reproduce.units import count

    ui: Ui = ctx.obj
    damaged = 0
    folders = [folder for folder in chosen(keys) if folder.sealed]
    for folder in folders:
        try:
            folder.verify()
        except OfeError as error:
            damaged += 1
            ui.error(error)
        else:
            ui.line(f"{folder.path.name}: whole")
    ui.tell(f"{count(len(folders), 'sealed run')}, {damaged} damaged")
    raise typer.Exit(int(damaged > 0))


@app.command("prune")
def prune(
    ctx: typer.Context,
    yes: Yes = False,
    weights: Annotated[
        bool, typer.Option("--weights", help="Remove the kept weights of sealed runs instead; their traces stay.")
    ] = False,
) -> None:
    """Remove the folders of unfinished runs.

    Sealed runs stay. An unfinished run that is wanted again starts from the beginning.
    """
    from reproduce.cli.selection import store
    from reproduce.errors import OfeError
    from reproduce.units import size

    ui: Ui = ctx.obj
    if weights:
        _prune_weights(ui, yes)
        return
    closed = [folder.unreadable for folder in store().list() if folder.unreadable]
    for reason in closed:
        ui.tell(f"{reason}; that folder stays as it is")
    folders = [(folder, folder.status()) for folder in store().list() if not folder.unreadable]
    leftovers = [(folder, why) for folder, (state, why) in folders if not folder.sealed and state != "running"]
    repeated = [(folder, why) for folder, (state, why) in folders if folder.sealed and state in ("resumable", "failed")]
    repeated = [(folder, why) for folder, why in repeated if folder.holds_its_run]
    if not leftovers and not repeated:
        ui.tell("nothing to remove: every run is sealed or being trained")
        return
    for folder, why in leftovers:
        ui.tell(f"{folder.path.name}: {why}, {size(_bytes(folder.path))}")
    for folder, why in repeated:
        ui.tell(f"{folder.path.name}: {why}; its sealed trace stays")
    if not yes:
        typer.confirm(f"remove these {len(leftovers) + len(repeated)} unfinished trainings?", abort=True, err=True)
    refused = 0
    for folder, _ in leftovers + repeated:
        try:
            if folder.sealed:
                folder.give_up_weights()
                ui.line(f"removed the unfinished training in {folder.path.name}")
            else:
                store().remove_unfinished(folder)
                ui.line(f"removed {folder.path.name}")
        except OfeError as error:  # such as one that has been begun meanwhile: the others are removed all the same
            ui.error(error)
            refused += 1
    raise typer.Exit(int(refused > 0))


def _prune_weights(ui: Ui, yes: bool) -> None:
    from reproduce.cli.selection import store
    from reproduce.errors import OfeError
    from reproduce.units import count, size

    keeping = []
    for folder in store().list():
        try:
            if folder.sealed and folder.state == "sealed" and folder.weights():
                keeping.append(folder)
        except OfeError as error:  # a damaged list of weights stops nothing but its own removal
            ui.error(error)
    if not keeping:
        ui.tell("nothing to remove: no sealed run keeps weights")
        return
    for folder in keeping:
        steps = ", ".join(map(str, folder.weights()))
        ui.tell(f"{folder.path.name}: the weights of step {steps}")
    if not yes:
        typer.confirm(f"remove the weights of {count(len(keeping), 'run')}?", abort=True, err=True)
    for folder in keeping:
        ui.line(f"removed {size(folder.drop_weights())} of weights of {folder.path.name}")


@app.command("export")
def export_runs(
    ctx: typer.Context,
    what: Annotated[
        list[str], typer.Argument(metavar="WHAT", help="DIR [KEY...], or with --out: figures, and keys of runs.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write an archive, such as fig5.ofe.tar.")
    ] = None,
    scale: ScaleOption = DEFAULT_SCALE,
    seeds: Seeds = None,
    overrides: Overrides = None,
    weights: Annotated[bool, typer.Option("--weights", help="Put the kept weights into the archive as well.")] = False,
) -> None:
    """Copy sealed runs to a folder, or figures to an archive.

    `ofe cache export DIR [KEY...]` copies run folders. `ofe cache export fig5 -o fig5.ofe.tar` writes all runs that the
    figure and its claims read, from which `ofe plot fig5 --from-cache fig5.ofe.tar` redraws it on any machine.
    `ofe cache import` reads both.
    """
    from reproduce.cli.selection import store
    from reproduce.errors import OfeError
    from reproduce.store.home import explain_os_errors
    from reproduce.units import count

    ui: Ui = ctx.obj
    if out is not None:
        _export_archive(ui, what, out, scale, seeds, overrides or [], weights)
        return
    asked = {"--scale": scale != DEFAULT_SCALE, "--seeds": seeds is not None, "--set": overrides, "--weights": weights}
    if names := [name for name, given in asked.items() if given]:
        hint = "add -o FILE, such as -o fig5.ofe.tar"
        raise OfeError(f"only an archive is made with {' and '.join(names)}", hint=hint, exit_code=2)
    target, keys = Path(what[0]), what[1:]
    left_behind = refused = 0
    for folder in chosen(keys):
        if keys or folder.sealed:
            try:
                with explain_os_errors(target, "DIR"):
                    ui.line(str(store().export(folder, target).path))
                left_behind += bool(folder.weights())
            except OfeError as error:  # such as a damaged one: the others are copied all the same
                ui.error(error)
                refused += 1
    if left_behind:
        ui.tell(f"weights are not copied: {count(left_behind, 'run')} of these keeps some here")
    raise typer.Exit(int(refused > 0))


def _export_archive(
    ui: Ui, what: list[str], out: Path, scale: Scale, seeds: int | None, changes: list[str], weights: bool
) -> None:
    """Write an archive of figures, and of runs that are named by key or slug."""
    from reproduce.cli.selection import resolve_all, select, store
    from reproduce.errors import OfeError
    from reproduce.specs.load import is_path, portable
    from reproduce.store.archive import SUFFIX, write_archive
    from reproduce.units import count, size

    if out.suffix != SUFFIX:
        raise OfeError(f"an archive ends in {SUFFIX}, and {out} does not", hint=f"-o {out}{SUFFIX}", exit_code=2)
    known = {name for folder in store().list() for name in (folder.key, folder.slug, folder.path.name)}
    figures = [name for name in what if name not in known]
    folders = (
        {folder.path: folder for folder in chosen([name for name in what if name in known] or None)}
        if (len(figures) < len(what))
        else {}
    )
    resolveds = resolve_all(select(figures, scale), scale, overrides=changes, seeds=seeds) if figures else []
    missing = []
    for resolved in resolveds:
        for run in (*resolved.runs, *resolved.extra):
            folder = store().folder(run)
            if folder.sealed:
                folders[folder.path] = folder
            else:
                missing.append(run.slug)
    if not folders:
        hint = f"train them first: {reproduce_command(what, scale, seeds, changes)}"
        raise OfeError(f"no run of {', '.join(what)} is sealed here", hint=hint)
    specs = {of: text for name in figures if is_path(name) for of, text in portable(name).items()}
    about = {"scale": scale, "figures": [resolved.experiment.id for resolved in resolveds]}
    write_archive(out, list(folders.values()), about, specs, weights=weights)
    if missing:
        ui.tell(f"without {', '.join(dict.fromkeys(missing))}, which are not sealed here")
    ui.line(str(out))
    ui.tell(f"{count(len(folders), 'run')}, {size(out.stat().st_size)}")


@app.command("import")
def import_runs(
    ctx: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="Run folders, folders that contain some, or archives.", exists=True),
    ],
) -> None:
    """Copy sealed runs into the cache, and check every byte of them."""
    from reproduce.cli.selection import store
    from reproduce.errors import OfeError
    from reproduce.store.archive import SUFFIX, runs_in, unpack
    from reproduce.store.seal import is_sealed

    ui: Ui = ctx.obj
    for path in paths:
        if path.is_file() and path.suffix == SUFFIX:
            with tempfile.TemporaryDirectory(prefix="ofe-") as unpacked:
                unpack(path, Path(unpacked))
                for run in runs_in(Path(unpacked)):
                    ui.line(str(store().import_folder(run.path).path))
            continue
        folders = sorted(path.iterdir()) if path.is_dir() else []
        found = [path] if is_sealed(path) else [folder for folder in folders if is_sealed(folder)]
        if not found:
            what = "holds no sealed run" if path.is_dir() else "is a file, not a run folder"
            raise OfeError(
                f"{path} {what}", hint="name a folder with a SHA256SUMS, one that contains such, or an archive"
            )
        for folder in found:
            ui.line(str(store().import_folder(folder).path))


@app.command("promote")
def promote(
    ctx: typer.Context,
    keys: Annotated[list[str], typer.Argument(metavar="RUN", help="Keys or slugs of sealed runs.")],
) -> None:
    """Make sealed runs reference traces, which come with the code.

    Their folders are copied to `figures/SCALE/traces/` of this clone, without anything that identifies this machine.
    An earlier reference trace of the same recipe is replaced. `make figures` then draws from the new ones.
    """
    from reproduce.errors import OfeError
    from reproduce.store.reference import add_reference

    ui: Ui = ctx.obj
    runs = [(folder, folder.read_run_yaml()["scale"]) for folder in map(the_one, keys)]
    for folder, scale in runs:
        if scale == "smoke":
            raise OfeError(
                f"{folder.path.name} is of the smoke scale, which tests the plumbing and is never judged",
                hint="choose a run of another scale",
                exit_code=2,
            )
    for folder, scale in runs:
        ui.line(str(add_reference(folder, scale).path))


@app.command("moments")
def moments(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Key or slug of a sealed run.")],
    form: Annotated[
        Literal["eq1", "variance", "sample", "neurons", "share"],
        typer.Option("--form", help="eq1: Eq (1); variance: Eq (1) - 1; sample: the variance with d - 1 for d; "
                     "neurons: d / Eq (1); share: the largest neuron's share of the second moment."),
    ] = "eq1",
    json: Json = False,
) -> None:  # fmt: skip
    """Compute kurtosis in any convention, of a run that has ended.

    It is computed from the second moments that a run keeps beside its trace.
    """
    from reproduce.store.moments import recompute

    ui: Ui = ctx.obj
    table = recompute(the_one(run).read_moments(), form)
    rows = [
        {"step": step, "layer": layer, form: value, "neuron": neuron}
        for step, layer, value, neuron in table.itertuples(index=False)
    ]
    if json:
        ui.json([{**row, form: row[form] if abs(row[form]) < float("inf") else str(row[form])} for row in rows])
    else:
        cells = [[str(row["step"]), row["layer"], f"{row[form]:.6g}", str(row["neuron"])] for row in rows]
        ui.table(["step", "layer", form, "largest neuron"], cells)


@app.command("trace")
def trace(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", autocompletion=complete_run, help="Key or slug of a run.")],
    form: Annotated[
        Literal["csv", "wandb", "tensorboard"],
        typer.Option(
            "--to",
            help="csv: a row for each value. wandb: JSON lines as wandb.log takes them. tensorboard: event files.",
        ),
    ] = "csv",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="PATH", help="Write to this file, or for tensorboard folder; by default to stdout."
        ),
    ] = None,
    following: Annotated[
        bool, typer.Option("--follow", help="Wait for new records while the run is being trained.")
    ] = False,
) -> None:
    """Print the trace of a run, by default as CSV.

    The columns are step, split, metric, layer and value. The trace of an unfinished run is printed as far as it goes.
    """
    import time
    from contextlib import nullcontext

    from reproduce.errors import OfeError
    from reproduce.store.event_files import EventFileSink
    from reproduce.store.home import writing_output
    from reproduce.store.sinks import CsvSink, Sink, WandbSink, follow, replay

    ui: Ui = ctx.obj
    folder = the_one(run)
    if form == "tensorboard" and out is None:
        hint = f"ofe cache trace {run} --to tensorboard --out events"
        raise OfeError("TensorBoard reads a folder, which --out names", hint=hint, exit_code=2)
    with writing_output(out, "--out") if out else nullcontext():
        if form == "tensorboard":
            assert out is not None
            opened: Any = nullcontext()
            sink: Sink = EventFileSink(out / folder.path.name)
        else:
            opened = out.open("w", encoding="utf-8", newline="") if out else nullcontext(ui.out.file)
    with opened as file:
        if form != "tensorboard":
            sink = CsvSink(file) if form == "csv" else WandbSink(file)
        if following:
            follow(folder, sink, sleep=lambda: time.sleep(1))
        else:
            replay(folder, sink)
        sink.close()
    if out:
        ui.line(str(out))


def the_one(run: str) -> RunFolder:
    """The one folder that `run` names, which holds the run that its name says.

    Raises:
        OfeError: there is none, there are several (exit code 2), or the folder was renamed.
    """
    from reproduce.errors import OfeError

    (folder, *others) = chosen([run])
    if others:
        names = ", ".join(one.path.name for one in (folder, *others))
        raise OfeError(f"{run} stands for several run folders", hint=f"name one of {names}", exit_code=2)
    folder.check_key()
    return folder


def chosen(keys: list[str] | None) -> list[RunFolder]:
    """The run folders with these keys or slugs, or all of them if `keys` is empty.

    Raises:
        OfeError: there is no such run (exit code 2).
    """
    from reproduce.cli.selection import how_to_train, store
    from reproduce.errors import OfeError

    folders = store().list()
    if not keys:
        return folders
    chosen = []
    for key in keys:
        found = [folder for folder in folders if key in (folder.key, folder.slug, folder.path.name)]
        if not found:
            raise OfeError(
                f"no run {key} in {store().runs}",
                hint=how_to_train(key) or "`ofe cache list` shows the keys",
                exit_code=2,
            )
        chosen += found
    return chosen


def _bytes(folder: Path) -> int:
    """Size of all files in `folder` that can be looked at, in bytes."""
    total = 0
    for there, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # a file that has gone meanwhile, or a folder that may not be entered
                total += os.stat(os.path.join(there, name)).st_size
    return total
