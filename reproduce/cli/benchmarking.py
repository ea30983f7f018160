"""`ofe bench`: how fast trainings are here, beside what the machine could do and what people would use instead."""

from __future__ import annotations

from typing import Annotated

import typer

from reproduce.cli.console import Ui
from reproduce.cli.options import Json


def bench(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="What to measure; without it, all that takes little time here."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; without it, the one that trainings take.")] = None,
    json: Json = False,
) -> None:
    """Measure how fast trainings are on this machine.

    Every row is a ratio of two things that alternate in the same minute. The rows are kept in OFE_HOME/bench.json. The
    machine should do nothing else meanwhile.
    """
    from reproduce.bench.results import chosen, measure_all
    from reproduce.errors import OfeError
    from reproduce.machine import best_precision, this_machine

    ui: Ui = ctx.obj
    machine = this_machine()
    if device not in (None, "cpu", "cuda"):
        raise OfeError(f"no device {device!r}", hint="choose cpu or cuda", exit_code=2)
    jobs = chosen(names or [], device or machine.device)
    results = measure_all(jobs, machine, best_precision(machine), ui.tell)
    if json:
        ui.json([result.as_json() for result in results])
        return
    rows = []
    for result in results:
        measured = "not measured" if result.ratio is None else result.row.told(result.ratio)
        state = result.why if result.ratio is None else "yes" if result.row.met(result.ratio) else "no"
        rows.append([result.row.what, result.row.against, result.row.aim(), measured, state])
    ui.table(["what", "against", "aim", "measured", "met"], rows)
