"""The command line `ofe`. Each command is in a module of its own, and imports what it needs only when it is called.

Exit codes:

    0     done
    1     a run or a claim failed
    2     bad usage or a bad spec
    3     work remains: runs have to be trained first
    75    stopped by another signal than Ctrl-C's, such as a preemption: the same command continues
    130   stopped with Ctrl-C
    141   the reader of the output closed it, as in `ofe list | head`
"""

from __future__ import annotations

import errno
import io
import os
import re
import shlex
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from reproduce.cli import cache, data
from reproduce.cli.benchmarking import bench
from reproduce.cli.console import ui
from reproduce.cli.differing import diff
from reproduce.cli.doctor import doctor
from reproduce.cli.exporting import export
from reproduce.cli.listing import list_figures
from reproduce.cli.making import new, schema
from reproduce.cli.measuring import measure
from reproduce.cli.options import TYPED, with_archives
from reproduce.cli.planning import plan
from reproduce.cli.plotting import plot
from reproduce.cli.quantising import quantise
from reproduce.cli.reporting import report
from reproduce.cli.reproducing import reproduce
from reproduce.cli.showing import show
from reproduce.cli.status import status
from reproduce.cli.verifying import verify
from reproduce.errors import OfeError
from reproduce.processes import COMMAND_VARIABLE, INTERRUPTED, READER_LEFT, Stopped, raise_when_asked, stop_code
from reproduce.store.home import in_words, lend_home

_EMPTY = re.compile(r"(--[\w-]+=)?\s*")
"""A word that says nothing. A path that is empty would be the current folder."""


class Commands(TyperGroup):
    """The group of all commands. It turns errors into a sentence and an exit code.

    Only a defect of ofe ends in a traceback.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing and any(_EMPTY.fullmatch(word) for word in args):
            ctx.fail("a word of the command is empty, as one is where a variable of the shell is not set")
        ctx.meta[TYPED] = ["ofe", *args]  # a copy, since parsing removes words from the list
        os.environ[COMMAND_VARIABLE] = shlex.join(ctx.meta[TYPED])
        return super().parse_args(ctx, with_archives(args))

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()  # here, since nobody could say in words later that the disk is full
            return result
        except OfeError as error:
            (ctx.obj or ui()).error(error)
            raise typer.Exit(error.exit_code) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever reads the output has read enough
                _drop_output()
                raise typer.Exit(READER_LEFT) from error
            told = in_words(error)
            (ctx.obj or ui()).error(told)
            if error.filename is None:
                _drop_output()
            raise typer.Exit(told.exit_code) from error
        except KeyboardInterrupt as stop:
            (ctx.obj or ui()).tell("stopped; the same command continues")
            raise typer.Exit(stop_code(stop.number) if isinstance(stop, Stopped) else INTERRUPTED) from stop


app = typer.Typer(
    cls=Commands,
    name="ofe",
    help="Re-make the figures of the paper on outlier features (arXiv 2405.19279), with a verdict on each claim.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from reproduce.cli.start import version_lines

        for line in version_lines():
            ui().line(line)
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version, that of Python and torch, and the device; then stop.",
        ),
    ] = False,
) -> None:
    ctx.obj = ui()
    if ctx.invoked_subcommand is None:
        from reproduce.cli.start import what_next

        what_next(ctx.obj)


app.command("list")(list_figures)
app.command("show")(show)
app.command("plan")(plan)
app.command("reproduce")(reproduce)
app.command("plot")(plot)
app.command("verify")(verify)
app.command("measure")(measure)
app.command("quantise")(quantise)
app.command("export")(export)
app.command("status")(status)
app.command("report")(report)
app.command("diff")(diff)
app.command("new")(new)
app.command("schema")(schema)
app.add_typer(cache.app, name="cache")
app.add_typer(data.app, name="data")
app.command("doctor")(doctor)
app.command("bench")(bench)


@app.command("version")
def print_version() -> None:
    """Print the versions of ofe, Python and torch."""
    _print_version(True)


def _drop_output() -> None:
    """Leave out what could not be printed. At its end Python would try to print it again, and complain."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Entry point of `ofe`."""
    raise_when_asked()
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be UTF-8, nor can every terminal show all
        utf8 = sys.stdout.encoding.lower() in ("utf-8", "utf8")
        sys.stdout.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")
    lend_home()
    app(prog_name="ofe")
