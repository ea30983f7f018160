"""`ofe new` and `ofe schema`: a spec of one's own, and what an editor must know to help with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from reproduce.cli.completion import complete_figure
from reproduce.cli.console import Ui
from reproduce.errors import OfeError


def new(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, such as mine.yaml.")],
    source: Annotated[
        str,
        typer.Option("--from", metavar="ID", autocompletion=complete_figure, help="The figure or table to begin from."),
    ] = "fig2",
) -> None:
    """Write a commented spec of your own, to be changed.

    It has the setting, runs, plot and claims of an existing figure. The figure's id is the name of the file.
    """
    from reproduce.specs.load import experiment_file, load_experiment
    from reproduce.specs.schema import NAME
    from reproduce.specs.start import start_of
    from reproduce.store.atomic import write_text
    from reproduce.store.home import writing_output

    ui: Ui = ctx.obj
    if file.suffix not in (".yaml", ".yml"):
        raise OfeError(f"{file} does not end in .yaml", hint=f"ofe new {file}.yaml --from {source}", exit_code=2)
    if not NAME.fullmatch(file.stem):
        hint = "use at most 100 letters, digits, dots, dashes and underscores"
        raise OfeError(f"{file.stem!r} cannot be the id of a figure", hint=hint, exit_code=2)
    if file.exists():
        hint = "choose another name, or remove it first"
        raise OfeError(f"{file} exists already", hint=hint, exit_code=2)
    experiment = load_experiment(source)
    text = experiment_file(source).read_text(encoding="utf-8")
    with writing_output(file, "FILE"):
        write_text(file, start_of(experiment, source, text, file.stem, str(file)))
    ui.line(str(file))
    ui.tell(f"next: change it, then\n      `ofe show {file}` reads it back,")
    ui.tell(f"      `ofe reproduce {file}` trains and draws it")


def schema(
    ctx: typer.Context,
    of: Annotated[
        Literal["experiment", "setting"], typer.Argument(metavar="experiment|setting", help="What to describe.")
    ] = "experiment",
) -> None:
    """Print the JSON schema of specs, for editors.

    An editor with a YAML language server then completes names and marks mistakes while you type:
    `ofe schema > ofe.schema.json`, and `# yaml-language-server: $schema=ofe.schema.json` as first line of the spec.
    """
    from reproduce.specs.json_schema import experiment_schema, setting_schema

    ui: Ui = ctx.obj
    ui.json(experiment_schema() if of == "experiment" else setting_schema())
