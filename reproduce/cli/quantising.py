"""`ofe quantise`: perplexity of a model before and after quantisation, what loses most, and which method saves it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reproduce.cli.console import Ui
from reproduce.cli.models import do_missing, named_models, say_how, text_sample
from reproduce.cli.options import (
    AllowPickle,
    AtSteps,
    Dataset,
    Gguf,
    Json,
    Offline,
    Revisions,
    RunsOn,
    SeqLen,
    TextPath,
    TrustRemoteCode,
)
from reproduce.errors import OfeError

if TYPE_CHECKING:
    from reproduce.job_config import TextSample
    from reproduce.specs.runs import ResolvedRun

SEQ_LEN, SEQUENCES = 128, 16
"""Length and number of the sequences on which a checkpoint is evaluated by default."""


def quantise(
    ctx: typer.Context,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help="Run in the cache, name on the Hugging Face hub, folder in its format, or .gguf file.",
        ),
    ],
    weights: Annotated[int, typer.Option("--weights", metavar="BITS", min=2, max=16, help="Bits of weights.")] = 8,
    activations: Annotated[
        int, typer.Option("--activations", metavar="BITS", min=2, max=16, help="Bits of activations.")
    ] = 8,
    methods: Annotated[bool, typer.Option("--methods", help="Try every method of the lab too; takes minutes.")] = False,
    rows: Annotated[
        str | None, typer.Option("--rows", metavar="ROW,...", help="Only these rows; `--rows ?` names them all.")
    ] = None,
    seeds: Annotated[
        int,
        typer.Option("--seeds", metavar="N", min=1, help="Of a run: subsets for static calibration."),
    ] = 3,
    tensors: Annotated[
        int, typer.Option("--tensors", metavar="N", min=0, help="Tensors to quantise alone, the noisiest first.")
    ] = 8,
    sequences: Annotated[
        int | None,
        typer.Option("--sequences", metavar="N", min=1, help="Sequences to evaluate on; of a run, as it was trained."),
    ] = None,
    seq_len: SeqLen = None,
    text: TextPath = None,
    dataset: Dataset = None,
    steps: AtSteps = None,
    revisions: Revisions = None,
    gguf: Gguf = None,
    device: RunsOn = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw what each row costs.")] = None,
    offline: Offline = False,
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
    json: Json = False,
) -> None:
    """Quantise a trained model, and say what that costs and why.

    `--methods` also tells which method against outliers saves the model. The rows separate causes: weights or
    activations, one scale or one for each token, the first position, outlier channels. A run is also quantised by the
    published protocol, at every tensor with static ranges. It is evaluated on text that it has held out; a checkpoint
    on embedded text unless one is given. Results are kept in the cache.
    """
    from reproduce.choices import image_format
    from reproduce.cli.quantised import plot_readings, print_readings, reading_of
    from reproduce.cli.selection import store
    from reproduce.quantise.rows import CAUSES, METHODS

    ui: Ui = ctx.obj
    if rows == "?":
        _list_rows(ui)
        return
    if plot is not None:
        image_format(plot)
    chosen = _rows(rows) if rows is not None else CAUSES + (METHODS if methods else ())
    sample = text_sample(text, dataset, None)
    say_how(offline, device, None)
    common: dict[str, Any] = {"weights": weights, "activations": activations, "tensors": tensors, "rows": chosen}
    jobs: list[ResolvedRun] = []
    for model in models:
        parents, of_checkpoint = named_models(model, revisions, gguf, steps, offline, allow_pickle)
        for parent, training in parents:
            if of_checkpoint:
                how = {"allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
                jobs.append(_of_checkpoint(parent.model_copy(update=how), sample, sequences, seq_len, common))
            else:
                if sample is not None or seq_len is not None:
                    raise OfeError(f"{model} is a run, which is quantised on its own text",
                                   hint="leave out --text, --dataset and --seq-len", exit_code=2)  # fmt: skip
                jobs.append(_of_run(training, parent.step, sequences, seeds, common, sets=methods))
    do_missing(ui, jobs, offline=offline)
    readings = [reading_of(job, store().folder(job)) for job in jobs]
    if plot is not None:
        plot_readings(plot, readings)
    if json:
        ui.json(readings)
    else:
        print_readings(ui, readings)


def _rows(text: str) -> tuple[str, ...]:
    """The rows that the user names.

    Raises:
        OfeError: there is no such row.
    """
    from reproduce.quantise.rows import ROWS
    from reproduce.specs.problems import nearest

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in ROWS:
            close = nearest(name, list(ROWS))
            hint = f"did you mean {close}? " if close else ""
            raise OfeError(f"there is no row {name}", hint=f"{hint}`--rows ?` names them all", exit_code=2)
    if not names:
        raise OfeError("--rows names no row", hint="`--rows ?` names them all", exit_code=2)
    return names


def _list_rows(ui: Ui) -> None:
    from reproduce.quantise.rows import ROWS

    ui.table(["row", "what it is", "family"], [[row.name, row.label, row.family] for row in ROWS.values()])


def _of_run(
    training: ResolvedRun, step: int, sequences: int | None, seeds: int, common: dict[str, Any], *, sets: bool
) -> ResolvedRun:
    """The job that quantises a run, by the published protocol too where weights and activations have equal widths."""
    from reproduce.config import TextData
    from reproduce.quantise.rows import SETS
    from reproduce.specs.runs import quantisation

    if step > training.last_step:
        last = training.last_step
        raise OfeError(f"{training.slug} ends at step {last}, before step {step}",
                       hint=f"give a step from 0 to {last}", exit_code=2)  # fmt: skip
    if not isinstance(training.data, TextData):
        raise OfeError(f"{training.slug} is a model of images: it has no perplexity",
                       hint="name a language model (`ofe status` lists the runs)", exit_code=2)  # fmt: skip
    widths = (common["weights"],) if common["weights"] == common["activations"] else ()
    rows = common["rows"] + (SETS if sets else ())
    fields = common | {"widths": widths, "rows": rows, "seeds": seeds}
    return quantisation(training, step, sequences, **fields)


def _of_checkpoint(
    parent: Any, sample: TextSample | None, sequences: int | None, seq_len: int | None, common: dict[str, Any]
) -> ResolvedRun:
    from reproduce.data.text.sample import identified
    from reproduce.job_config import TextSample
    from reproduce.specs.runs import checkpoint_quantisation

    sample = (sample or identified(TextSample())).model_copy(update={"seq_len": seq_len or SEQ_LEN})
    return checkpoint_quantisation(parent, sample, sequences or SEQUENCES, **common)
