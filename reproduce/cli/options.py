"""Arguments and options that several commands share, with one help text each, and the words of their hints."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from reproduce.choices import DEFAULT_SCALE, Scale, check_image_formats
from reproduce.cli.completion import complete_figure
from reproduce.errors import OfeError

WORK_REMAINS = 3
"""Exit code of a command that found runs which have to be trained first."""

TYPED = "reproduce.cli.typed"
"""Where the context of a command keeps the words that the user typed."""

Ids = Annotated[
    list[str],
    typer.Argument(
        metavar="ID",
        autocompletion=complete_figure,
        help="Figures or tables: fig2, tab3, v2:fig7, mine.yaml; or `all`.",
    ),
]
OptionalIds = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ID",
        autocompletion=complete_figure,
        help="Figures or tables; without any, those that have traces of most of their runs.",
    ),
]
Id = Annotated[
    str,
    typer.Argument(
        metavar="ID", autocompletion=complete_figure, help="Figure or table: fig2, tab3, v2:fig7 or mine.yaml."
    ),
]
ScaleOption = Annotated[
    Scale,
    typer.Option(
        "--scale",
        "-s",
        help="How large runs are: smoke tests the plumbing, laptop shows the effect, paper has the paper's sizes.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs; its shape is a contract.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a value of every run, such as optimizer.lr=0.003; may be given several times.",
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option(
        "--seeds", metavar="N", min=1, max=1000, help="Use N seeds of every run, in place of the number in the spec."
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", "-j", metavar="N", min=1, help="Train N runs side by side; by default one on each core, on a GPU one."
    ),
]
Devices = Annotated[
    int,
    typer.Option("--devices", metavar="N", min=1, help="Let N devices share each run: GPUs, or processes on the CPU."),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="Plan for another device than this machine's, from its published rates: h100, h100-pcie, h200, a100, "
        "a100-40gb, l4 or cpu.",
    ),
]
Partition = Annotated[str | None, typer.Option("--partition", metavar="NAME", help="Slurm: the partition of the jobs.")]
Gres = Annotated[str | None, typer.Option("--gres", metavar="LIST", help="Slurm: what each job gets, such as gpu:1.")]
TimeLimit = Annotated[
    int | None,
    typer.Option(
        "--time",
        metavar="MINUTES",
        min=1,
        help="Slurm: time limit of each job; by default from the plan, with a half more.",
    ),
]
Formats = Annotated[
    str,
    typer.Option(
        "--format", metavar="FORMAT,...", help="Image formats: png, svg or pdf, or several of them with commas."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="Write the figures to this folder; by default to one in OFE_HOME."),
]
KeepWeights = Annotated[
    bool,
    typer.Option("--keep-weights", help="Keep the final weights of every run; one sealed without them is repeated."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Do not use the network.")]
FromCache = Annotated[
    bool,
    typer.Option(
        "--from-cache",
        help="Use finished runs and reference traces alone, as this command always does. `--from-cache FILE` uses an "
        "archive of `ofe cache export -o FILE` alone, wherever it was made.",
    ),
]
Archive = Annotated[Path | None, typer.Option("--archive", hidden=True, help="What `--from-cache FILE` stands for.")]
Check = Annotated[bool, typer.Option("--check", help="Exit with code 3 when a run has yet to be trained.")]
Measure = Annotated[
    bool, typer.Option("--measure", help="Time this machine first, which takes about ten seconds, and keep the result.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before removing.")]

# Of a model that is measured or quantised

Revisions = Annotated[
    list[str] | None,
    typer.Option("--revision", metavar="R", help="Branch, tag or commit on the hub; may be given several times."),
]
Gguf = Annotated[
    str | None, typer.Option("--gguf", metavar="FILE", help="GGUF file in the folder or repository MODEL.")
]
TextPath = Annotated[
    Path | None,
    typer.Option("--text", metavar="PATH", help="Of a checkpoint: a file or folder of text; by default embedded text."),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="Of a checkpoint: a source of `ofe data list`, or owner/name on the hub.",
    ),
]
SeqLen = Annotated[
    int | None, typer.Option("--seq-len", metavar="N", min=2, help="Of a checkpoint: tokens in a sequence.")
]
AtSteps = Annotated[
    list[int] | None,
    typer.Option("--step", metavar="N", min=0, help="Of a run: the weights after N steps; by default the last."),
]
RunsOn = Annotated[
    Literal["cpu", "cuda"] | None, typer.Option("--device", help="Device; by default a GPU if there is one.")
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Read tensors from .bin files, which are Python pickles.")
]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the checkpoint.")]


def formats(text: str) -> tuple[str, ...]:
    """The formats in the value of `--format`, such as `png,svg`, each once.

    Raises:
        OfeError: there is none, or one in which no picture can be written (exit code 2).
    """
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    check_image_formats(names or ("",))
    return names


def check_for_cluster(used: bool, by: str, options: Mapping[str, object]) -> None:
    """Refuse options that only jobs of a cluster have where the command makes none.

    Args:
        by: the option with which it makes some.
        options: what the user gave, by the name of the option.

    Raises:
        OfeError: one of them was given (exit code 2).
    """
    given = [name for name, value in options.items() if value is not None]
    if given and not used:
        what, them = ("is", "it") if len(given) == 1 else ("are", "them")
        hint = f"add {by}, or leave {them} out"
        raise OfeError(f"{' and '.join(given)} {what} for jobs of a cluster", hint=hint, exit_code=2)


def with_archives(words: Sequence[str]) -> list[str]:
    """`words` with `--archive FILE` for `--from-cache FILE`, whose file may be left out."""
    found: list[str] = []
    for number, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option == "--from-cache" and equals:
            found += ["--archive", value]
        elif number and words[number - 1] == "--from-cache" and word.endswith(".tar"):
            found[-1:] = ["--archive", word]
        else:
            found.append(word)
    return found


def at_scale(scale: str) -> str:
    """What a command needs so that it means this scale: nothing for the default one."""
    return "" if scale == DEFAULT_SCALE else f" --scale {scale}"


def typed(ctx: typer.Context) -> str:
    """The command as the user typed it, to be typed again."""
    return shlex.join(ctx.meta[TYPED])


def reproduce_command(ids: Sequence[str], scale: str, seeds: int | None, overrides: Sequence[str]) -> str:
    """What to type to train the runs of these figures.

    Args:
        ids: the figures as the user named them: a spec of one's own is found by its path alone.
    """
    options = ["--scale", scale, *(["--seeds", str(seeds)] if seeds is not None else [])]
    options += [word for override in overrides for word in ("--set", override)]
    return shlex.join(["ofe", "reproduce", *ids, *options])
