"""`ofe doctor`: check what is installed and which devices and data there are, and say what to do next."""

from __future__ import annotations

from typing import Annotated

import typer

from reproduce.cli.console import Ui
from reproduce.cli.options import Json


def doctor(
    ctx: typer.Context,
    json: Json = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also load torch and ask it for its devices, which takes some seconds.")
    ] = False,
) -> None:
    """Check this installation, and say what to do next.

    The exit code is 1 if something is broken.
    """
    from reproduce.machine import this_machine
    from reproduce.plan.doctor import examine

    ui: Ui = ctx.obj
    checks = examine(this_machine(), deep=deep)
    if json:
        ui.json([check.as_json() for check in checks])
    else:
        ui.table(
            ["check", "state", "what was found"],
            [
                [check.name, check.status, check.detail + (f"\nhint: {check.hint}" if check.hint else "")]
                for check in checks
            ],
        )
    raise typer.Exit(int(any(check.status == "fail" for check in checks)))
