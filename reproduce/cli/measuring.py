"""`ofe measure`: outlier features of any checkpoint or run, layer by layer, with its worst neurons and their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reproduce.cli.console import Ui
from reproduce.cli.models import check_step, do_missing, named_models, say_how, text_sample
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

TOKENS, SEQ_LEN = 4096, 512
"""How much text a checkpoint is measured on by default: 8 sequences of 512 tokens."""
PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def measure(
    ctx: typer.Context,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help="Name on the Hugging Face hub, folder in its format, .gguf file, or run in the cache.",
        ),
    ],
    revisions: Revisions = None,
    gguf: Gguf = None,
    text: TextPath = None,
    dataset: Dataset = None,
    text_ids: Annotated[
        Path | None, typer.Option("--text-ids", metavar="FILE", help="Measure on token indices, as text or .npy.")
    ] = None,
    tokens: Annotated[
        int, typer.Option("--tokens", metavar="N", min=2, help="Number of tokens to measure on.")
    ] = TOKENS,
    seq_len: SeqLen = None,
    skip_first: Annotated[
        int,
        typer.Option("--skip-first", metavar="K", min=0, help="First positions that the second column leaves out."),
    ] = 1,
    points: Annotated[
        str,
        typer.Option(
            "--points",
            metavar="P,...",
            help="Where to measure: stream, and attn_out, mlp_out, down_in, q, k in blocks.",
        ),
    ] = "stream",
    correlations: Annotated[
        bool, typer.Option("--correlations", help="Measure the RMS correlations too, on up to 4,096 tokens.")
    ] = False,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option("--dtype", help="Type of weights and products.")
    ] = "float32",
    device: RunsOn = None,
    batch: Annotated[
        int | None, typer.Option("--batch", metavar="N", min=1, help="Sequences in one forward pass.")
    ] = None,
    steps: AtSteps = None,
    examples: Annotated[
        int | None,
        typer.Option("--examples", metavar="N", min=1, help="Of a run: measure on N held-out examples of its own."),
    ] = None,
    point: Annotated[
        Literal["residual", "attention-input", "mlp-input"] | None,
        typer.Option("--point", help="Of a run: where in a layer to measure; by default as the run."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare the streams with the model's own hidden states first.")
    ] = False,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write all values to a CSV file.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw kurtosis over layers.")] = None,
    offline: Offline = False,
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
    json: Json = False,
) -> None:
    """Measure outlier features in any checkpoint or run.

    The report goes layer by layer, and names the worst neurons and the tokens on which they fire. Each metric has two
    columns: all positions, and without the first one, which alone often decides. A checkpoint is measured on embedded
    prose and code unless a text is given, a run on the examples that it has held out. Results are kept in the cache, as
    those of trainings are.
    """
    from reproduce.choices import image_format
    from reproduce.cli.readings import print_readings, reading_of, write_csv, write_plot
    from reproduce.cli.selection import store

    ui: Ui = ctx.obj
    if plot is not None:
        image_format(plot)
    sample = text_sample(text, dataset, text_ids)
    inner = _points(points)
    say_how(offline, device, batch)
    jobs: list[ResolvedRun] = []
    for model in models:
        parents, of_checkpoint = named_models(model, revisions, gguf, steps, offline, allow_pickle)
        for parent, training in parents:
            if of_checkpoint is False and sample is None and not inner and not correlations:
                jobs.append(_own_examples(training, parent.step, examples, point, skip_first))
                continue
            if examples is not None or point is not None:
                raise OfeError(
                    "--examples and --point are of runs that are measured on examples of their own",
                    hint="say how much text with --tokens, and where in a block with --points",
                    exit_code=2,
                )
            if of_checkpoint:
                options = {"allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
                parent = parent.model_copy(update=options)
            jobs.append(
                _on_text(
                    parent, training, sample, tokens, seq_len,
                    skip_first=skip_first, points=inner, correlations=correlations, precision=PRECISIONS[dtype],
                )
            )  # fmt: skip
    if check:
        _check(ui, jobs)
    do_missing(ui, jobs, offline=offline)
    readings = [reading_of(job, store().folder(job)) for job in jobs]
    for reading in readings:
        if reading.get("same_trace") is False:
            ui.tell(
                f"{reading['model']} was trained once more to keep these weights, and its trace was not quite the "
                "sealed one: the values may differ from the trace by rounding that has grown"
            )
    if csv is not None:
        write_csv(csv, readings)
    if plot is not None:
        write_plot(plot, readings)
    if json:
        ui.json(readings)
    else:
        print_readings(ui, readings)


# ---------------------------------------------------------------------------------------------------
# What is to be measured


def _points(text: str) -> tuple[str, ...]:
    from typing import get_args

    from reproduce.job_config import InnerPoint

    names = dict.fromkeys(name.strip() for name in text.split(",") if name.strip())
    known = get_args(InnerPoint)
    for name in names:
        if name not in ("stream", *known):
            raise OfeError(f"there is no point {name}", hint=f"name some of stream, {', '.join(known)}", exit_code=2)
    return tuple(name for name in known if name in names)


def _own_examples(
    training: ResolvedRun, step: int, examples: int | None, point: str | None, skip_first: int
) -> ResolvedRun:
    """The job that measures a run after `step` steps on examples that it has held out."""
    from reproduce.config import TextData

    job = measurement(training, step, examples, point)
    if isinstance(training.data, TextData):
        _check_skipped(skip_first, training.data.seq_len)
    return replace(job, config=job.config.model_copy(update={"skip_first": skip_first}))


def _check_skipped(skip_first: int, seq_len: int) -> None:
    if skip_first >= seq_len:
        hint = f"pass one below {seq_len}, or 0 to leave out none"
        message = f"--skip-first {skip_first} leaves nothing of sequences of {seq_len} tokens"
        raise OfeError(message, hint=hint, exit_code=2)


def measurement(parent: ResolvedRun, step: int, examples: int | None, point: str | None) -> ResolvedRun:
    """The job that measures `parent` after `step` steps.

    Args:
        examples: number of held-out examples, or None for as many as the training was probed on.
        point: where in a layer to measure, or None for where the training was probed.

    Raises:
        OfeError: the training has no such step (exit code 2).
    """
    from reproduce.specs import runs

    check_step(parent, step)
    return runs.measurement(parent, step, examples, point)


def _on_text(
    parent: Any,
    training: ResolvedRun | None,
    sample: TextSample | None,
    tokens: int,
    seq_len: int | None,
    **config: Any,
) -> ResolvedRun:
    """The job that measures a checkpoint, or a run, on a text."""
    from reproduce.checkpoints.files import most_positions, read_config
    from reproduce.config import TextData
    from reproduce.data.text.sample import identified
    from reproduce.job_config import TextSample
    from reproduce.specs.runs import checkpoint_measurement

    limit = None
    if training is not None:
        check_step(training, parent.step)
        data = training.data
        if not isinstance(data, TextData):
            raise OfeError(f"{training.slug} is a model of images, which reads no text", hint="leave the text out",
                           exit_code=2)  # fmt: skip
        limit = data.seq_len
    elif parent.form == "folder":
        limit = most_positions(read_config(Path(parent.path)))
    sample = sample or identified(TextSample())
    sample = sample.model_copy(update={"seq_len": seq_len or min(limit or SEQ_LEN, SEQ_LEN, tokens)})
    if tokens < sample.seq_len:
        raise OfeError(
            f"{tokens} tokens are less than one sequence of {sample.seq_len}", hint="pass --seq-len", exit_code=2
        )
    _check_skipped(config["skip_first"], sample.seq_len)
    return checkpoint_measurement(parent, sample, tokens // sample.seq_len, training=training, **config)


# ---------------------------------------------------------------------------------------------------
# Doing it


def _check(ui: Ui, jobs: Sequence[ResolvedRun]) -> None:
    """Say of each model whether the streams that are measured are its own hidden states.

    Raises:
        OfeError: they are not.
    """
    import torch

    from reproduce.checkpoints.measuring import check_against_hidden_states
    from reproduce.checkpoints.opening import load
    from reproduce.cli.selection import store

    for job in jobs:
        config: Any = job.config
        options = {} if job.training is not None else {
            "allow_pickle": config.parent.allow_pickle, "trust_remote_code": config.parent.trust_remote_code
        }  # fmt: skip
        opened = load(config.parent, store=store(), device=torch.device("cpu"), **options)
        length = min(32, opened.max_length or 32)
        trial = (torch.arange(2 * length).view(2, length) * 7 + 3) % opened.vocab_size
        wrong = check_against_hidden_states(opened, trial)
        layers = opened.structure.depth + 1
        if wrong:
            raise OfeError(
                f"{job.name}: the streams of {len(wrong)} of {layers} layers are not the model's own hidden states, "
                f"the first in layer {wrong[0]}",
                hint="report the architecture: its blocks were not found as they should be",
            )
        ui.tell(f"{job.name}: checked against output_hidden_states: all {layers} layers are equal, bit for bit")
