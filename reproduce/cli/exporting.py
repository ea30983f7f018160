"""`ofe export`: write a trained run as a folder in the format of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reproduce.cli.console import Ui


def export(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Key or slug of a training in the cache.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder to write, which must not hold anything.")],
    step: Annotated[
        int | None, typer.Option("--step", metavar="N", min=0, help="The weights after N steps; by default the last.")
    ] = None,
) -> None:
    """Write a trained language model as a Hugging Face folder.

    The folder has config.json, model.safetensors and tokenizer.json. A Pre-LN or Post-LN model becomes an OPT, which
    `transformers` loads with the same logits. Other blocks have no equal there: they are written in an architecture of
    ours, which `ofe measure` reads. A run that has not kept its weights is trained once more.
    """
    from reproduce.checkpoints.exporting import export_run
    from reproduce.cli.cache import the_one
    from reproduce.cli.models import check_step, finish, lacks_weights, trained_run
    from reproduce.cli.preparing import prepare_for
    from reproduce.cli.selection import store
    from reproduce.store.home import expanded

    ui: Ui = ctx.obj
    training = trained_run(the_one(run))
    wanted = training.last_step if step is None else step
    check_step(training, wanted)
    target = expanded(str(to))
    if lacks_weights(ui, training, [wanted]):
        prepare_for(ui, [training], offline=False)
        finish(ui, [training])
    architecture = export_run(store().folder(training), wanted, target)
    ui.line(str(target))
    loaded = (
        "`transformers` and `ofe measure` read it" if architecture != "OfeTransformer" else "`ofe measure` reads it"
    )
    ui.tell(f"{training.slug} after {wanted} steps is an {architecture}: {loaded}")
