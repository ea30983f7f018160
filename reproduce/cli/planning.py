"""`ofe plan`: show what `ofe reproduce` would train, why, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reproduce.choices import DEFAULT_SCALE
from reproduce.cli.console import Ui
from reproduce.cli.options import (
    WORK_REMAINS,
    Check,
    Device,
    Devices,
    Gres,
    Ids,
    Jobs,
    Json,
    KeepWeights,
    Measure,
    Overrides,
    Partition,
    ScaleOption,
    Seeds,
    TimeLimit,
    check_for_cluster,
    typed,
)
from reproduce.errors import OfeError

if TYPE_CHECKING:
    from reproduce.plan.memory import DeviceLayout
    from reproduce.plan.planner import Plan, PlannedRun


def plan(
    ctx: typer.Context,
    ids: Ids,
    scale: ScaleOption = DEFAULT_SCALE,
    jobs: Jobs = None,
    devices: Devices = 1,
    device: Device = None,
    seeds: Seeds = None,
    overrides: Overrides = None,
    keep_weights: KeepWeights = False,
    measure: Measure = False,
    check: Check = False,
    sbatch: Annotated[
        bool, typer.Option("--sbatch", help="Print a script that submits the runs to Slurm, in place of the plan.")
    ] = False,
    partition: Partition = None,
    gres: Gres = None,
    time: TimeLimit = None,
    json: Json = False,
) -> None:
    """Show what would be trained, why, and what it costs.

    Every run is listed once, with its state, parameters, tokens, FLOPs and time; the seeds of a run share a line.
    Memory and disk are given in total.
    """
    from reproduce.cli.selection import Shelf, check_chosen_data, plan_for, select

    ui: Ui = ctx.obj
    check_for_cluster(sbatch, "--sbatch", {"--partition": partition, "--gres": gres, "--time": time})
    if sbatch and json:
        raise OfeError("--sbatch prints a script and --json a plan", hint="leave out one of them", exit_code=2)
    resolveds, planned = plan_for(
        select(ids, scale),
        scale,
        overrides=overrides or [],
        seeds=seeds,
        jobs=jobs,
        devices=devices,
        keep_weights=keep_weights,
        measure=measure,
        device=device,
        report=ui.tell,
    )
    if device is None:
        check_chosen_data(resolveds, overrides or [])
    if sbatch:
        from reproduce.cli.submitting import print_script
        from reproduce.jobs.batch import Site

        print_script(ui, planned, ids, overrides or [], Site(partition, gres, time))
    elif json:
        ui.json(planned.as_json())
    else:
        _print(ui, planned, Shelf(scale).provenances(resolveds), timed=f"{typed(ctx)} --measure")
        if device is not None:
            from reproduce.plan.devices import assumptions, named_device

            ui.tell(f"\n{assumptions(named_device(device), devices)}")
    raise typer.Exit(WORK_REMAINS if check and not planned.complete else 0)


def _print(ui: Ui, planned: Plan, made: Sequence[Mapping[str, Any]], timed: str) -> None:
    """Print the plan for people.

    Args:
        made: the provenance of each trace that there is.
        timed: the command that times this machine first.
    """
    from reproduce.plan.planner import basis
    from reproduce.report.cost import machines, measured_cost
    from reproduce.units import count, duration, size

    _print_runs(ui, planned)
    _print_memory(ui, planned)
    total = planned.total
    ui.line()
    runs = f"{count(total.runs, 'run')} at {planned.scale} scale: {total.hits} sealed, {total.misses} to train"
    ui.line(runs + (f", {total.running} trained by another process" if total.running else ""))
    if len(planned.figures) > 1:
        ui.prose(
            f"{total.shared} of them are shared: {total.uses} uses in {len(planned.figures)} figures and tables, "
            "each run trained once"
        )
    if total.misses:
        ui.line(f"about {duration(total.seconds)} on {planned.device} with {planned.jobs} at a time ({basis(planned)})")
        ui.line(f"{total.flops:.2g} FLOPs, {size(total.memory_bytes)} of memory, {size(total.disk_bytes)} of disk")
    if total.download_bytes:
        ui.line(f"{size(total.download_bytes)} to download, unless the checkpoints are on this machine already")
    if spent := measured_cost(made):
        ui.prose(f"the {count(len(made), 'trace')} at hand took {spent} on {machines(made) or 'another machine'}")
    if basis(planned) == "not calibrated":
        ui.tell(f"\nhint: these times are a guess; this times the machine in some seconds:\n      {timed}")
    if planned.device == "cpu" and total.memory_bytes > planned.machine.memory_bytes:
        ui.tell(
            "\nhint: this machine has less memory;\n      OFE_MICRO_BATCH=1 computes batches in parts, which needs less"
        )


def _print_runs(ui: Ui, planned: Plan) -> None:
    """Print a line for each run. Its seeds share a line where they are alike; `ofe plan --json` has a run's key."""
    from reproduce.units import duration

    groups: dict[tuple[str, ...], list[PlannedRun]] = {}
    for entry in planned.runs:
        run = entry.run
        name = run.slug.replace(f"-{run.scale}-s{run.seed}", "")
        same = (name, entry.state, entry.reason, str(entry.params), str(entry.tokens), duration(entry.seconds))
        groups.setdefault(same, []).append(entry)
    ui.columns(
        [
            [name, _seeds(entries), state, *_amounts(entries[0]), duration(entries[0].seconds), ""]
            for (name, state, *_), entries in groups.items()
        ],
        widths=[12, 7, 9, 8, 8, 9, 8],
        titles=["run", "seeds", "state", "params", "tokens", "FLOPs", "time", ""],
    )
    reasons = dict.fromkeys((state, reason) for _, state, reason, *_ in groups)
    ui.line()
    for state, why in reasons:
        names = [name for name, of, reason, *_ in groups if (of, reason) == (state, why)]
        which = f" ({', '.join(dict.fromkeys(names))})" if len(reasons) > 1 else ""
        ui.prose(f"{state}{which}: {why}")


def _seeds(entries: Sequence[PlannedRun]) -> str:
    """The seeds of a line: `0`, or `0-2`."""
    seeds = sorted(entry.run.seed for entry in entries)
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}-{seeds[-1]}"


def _amounts(entry: PlannedRun) -> tuple[str, str, str]:
    """Parameters, tokens and FLOPs of one run."""
    return amount(entry.params), amount(entry.tokens), f"{entry.flops:.2g}"


def amount(number: int) -> str:
    """A large count in three digits.

    >>> amount(5_809_152), amount(300), amount(130_000_000)
    ('5.81M', '300', '130M')
    """
    value = float(number)
    for unit in ("", "k", "M", "G", "T"):
        if value < 999.5 or unit == "T":
            return f"{value:.3g}{unit}"
        value /= 1000
    raise AssertionError("the last unit takes any number")


def _print_memory(ui: Ui, planned: Plan) -> None:
    """Print the memory that runs take and the number of devices they need, at the scales meant for accelerators."""
    from reproduce.plan.footprint import footprint
    from reproduce.plan.memory import COUNTS
    from reproduce.units import size

    needs = planned.memory
    if planned.scale not in ("workstation", "paper") or not needs:
        return
    ui.line()
    ui.columns(
        [
            [_some(entry.runs), *map(size, (whole.weights, whole.gradients, whole.optimizer)),
             *map(size, (*entry.activations, whole.checkpoint)), ""]
            for entry in needs
            for whole in [footprint(entry.config)]
            if entry.memory == needs[0].memory
        ],
        widths=[12, 9, 11, 11, 9, 9, 9],
        titles=["memory", "weights", "gradients", "optimiser", "example", "again", "file", ""],
    )  # fmt: skip
    ui.line("example: the activations of one example; file: a checkpoint")
    ui.line("again: the activations if the backward pass computes those of each block again")
    ui.line("\nHow many examples each device can take at once, by the number of devices")
    ui.columns(
        [
            [_some(entry.runs), size(entry.memory), *(cells.get(count, "-") for count in COUNTS), ""]
            for entry in needs
            for cells in [{count: _fit(whole, sharded) for count, whole, sharded in entry.rows()}]
        ],
        widths=[12, 8, *(len(COUNTS) * [6])],
        titles=["run", "device", *map(str, COUNTS), ""],
    )
    ui.prose(
        "fsdp: with a shard of the weights, since whole ones do not fit; no: not even one example; "
        "-: the batch cannot be divided among so many devices"
    )


def _some(names: Sequence[str]) -> str:
    """The first of several names, and how many others there are: `cp-preln and 4 more`."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _fit(whole: DeviceLayout | None, sharded: DeviceLayout | None) -> str:
    """How a run fits on one number of devices: `16`, `fsdp 4`, or `no`."""
    if whole is not None:
        return str(whole.micro_batch)
    return "no" if sharded is None else f"fsdp {sharded.micro_batch}"
