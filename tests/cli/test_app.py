"""The surface of the command line: its commands and options, its exit codes, and what it does not import."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from reproduce.cli import app as cli
from reproduce.errors import OfeError
from reproduce.processes import child_environment

Ofe = Callable[..., Result]
Process = Callable[..., subprocess.CompletedProcess[str]]

SURFACE = {
    "": {"--help", "--install-completion", "--show-completion", "--version"},
    "list": {"--help", "--json", "--scale", "--setting", "--state", "--verdict"},
    "show": {"ID", "--full", "--help", "--json", "--scale"},
    "plan": {
        *("ID", "--check", "--devices", "--help", "--jobs", "--json", "--keep-weights", "--measure", "--scale"),
        *("--seeds", "--set", "--device", "--sbatch", "--partition", "--gres", "--time"),
    },
    "reproduce": {
        *("ID", "--devices", "--format", "--help", "--jobs", "--keep-weights", "--offline", "--out", "--scale"),
        *("--seeds", "--set", "--launcher", "--device", "--partition", "--gres", "--time"),
    },
    "measure": {
        *("MODEL", "--allow-pickle", "--batch", "--check", "--correlations", "--csv", "--dataset", "--device"),
        *("--dtype", "--examples", "--gguf", "--help", "--json", "--offline", "--plot", "--point", "--points"),
        *("--revision", "--seq-len", "--skip-first", "--step", "--text", "--text-ids", "--tokens"),
        "--trust-remote-code",
    },
    "quantise": {
        *("MODEL", "--activations", "--allow-pickle", "--dataset", "--device", "--gguf", "--help", "--json"),
        *("--methods", "--offline", "--plot", "--revision", "--rows", "--seeds", "--seq-len", "--sequences", "--step"),
        *("--tensors", "--text", "--trust-remote-code", "--weights"),
    },
    "export": {"RUN", "--help", "--step", "--to"},
    "bench": {"NAME", "--device", "--help", "--json"},
    "plot": {
        *("ID", "--add", "--archive", "--format", "--from-cache", "--help", "--layers", "--logy", "--out"),
        *("--overlay", "--scale", "--seeds", "--set", "--smooth", "--style"),
    },
    "report": {"ID", "--help", "--out"},
    "diff": {"RUN_A RUN_B|ID", "--help", "--json", "--layer", "--metric", "--scale"},
    "verify": {"ID", "--archive", "--from-cache", "--help", "--json", "--scale", "--seeds", "--set"},
    "status": {"--help", "--json"},
    "new": {"FILE", "--from", "--help"},
    "schema": {"experiment|setting", "--help"},
    "doctor": {"--deep", "--help", "--json"},
    "version": {"--help"},
    "cache dir": {"--help"},
    "cache list": {"--help", "--json"},
    "cache verify": {"KEY", "--help"},
    "cache prune": {"--help", "--weights", "--yes"},
    "cache export": {"WHAT", "--help", "--out", "--scale", "--seeds", "--set", "--weights"},
    "cache import": {"PATH", "--help"},
    "cache promote": {"RUN", "--help"},
    "cache moments": {"RUN", "--form", "--help", "--json"},
    "cache trace": {"RUN", "--follow", "--help", "--out", "--to"},
    "data list": {"--help", "--json"},
    "data prepare": {"ID", "--help", "--offline", "--scale", "--set"},
    "data check": {"ID", "--help", "--scale", "--set"},
}

HEAVY = ("torch", "transformers", "pandas", "matplotlib", "pyarrow", "datasets", "sklearn", "seaborn", "tokenizers")


def _commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", {})
    if not name or not children:
        yield name, command
    for child in children:
        yield from _commands(children[child], f"{name} {child}".strip())


def test_the_commands_and_their_options_are_as_promised() -> None:
    found = {}
    for name, command in _commands(typer.main.get_command(cli.app)):
        with typer.Context(command) as ctx:
            parameters = command.get_params(ctx)
        long = [max(p.opts, key=len) if p.param_type_name == "option" else p.metavar for p in parameters]
        found[name] = set(long)
    assert found == SURFACE


@pytest.mark.parametrize("name", SURFACE)
def test_every_command_and_every_parameter_says_what_it_is(name: str) -> None:
    command = dict(_commands(typer.main.get_command(cli.app)))[name]
    assert command.help
    assert all(parameter.help for parameter in command.params)


@pytest.mark.parametrize("name", SURFACE)
def test_an_argument_stands_in_one_pair_of_brackets(name: str) -> None:
    """typer writes the brackets and the dots itself: `[ID]...`."""
    command = dict(_commands(typer.main.get_command(cli.app)))[name]
    with typer.Context(command, info_name=name) as ctx:
        usage = command.get_usage(ctx)
    assert not re.search(r"\[\[|\{\[|\.\.\.[\]}]", usage)


@pytest.mark.parametrize("group", [[], ["cache"], ["data"]])
def test_the_list_of_commands_tells_each_in_a_whole_sentence(ofe: Ofe, group: list[str]) -> None:
    commands = ofe(*group, "--help").stdout.partition("Commands:")[2]
    assert commands
    assert "..." not in commands


def test_help_prints_and_exits_with_0(ofe: Ofe) -> None:
    result = ofe("--help")
    assert result.exit_code == 0
    assert "reproduce" in result.stdout


def test_version_is_a_command_and_an_option(ofe: Ofe) -> None:
    assert ofe("version").stdout == ofe("--version").stdout
    name, python, torch = ofe("version").stdout.splitlines()
    assert name.startswith("ofe ")
    assert python == f"Python {platform.python_version()}"
    assert torch.startswith(f"torch {version('torch')}, device cpu: ")


def test_ofe_alone_says_what_it_is_and_what_to_type_next(ofe: Ofe) -> None:
    result = ofe()
    assert result.exit_code == 0
    assert result.stdout.startswith("ofe re-makes the figures")
    known = set(dict(_commands(typer.main.get_command(cli.app))))
    named = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("  ofe ")]
    assert len(named) >= 5
    assert set(named) <= known


def test_ofe_alone_speaks_of_runs_that_could_go_on(ofe: Ofe, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "runs" / "toy-ln-laptop-s0-0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "progress.json").write_text(json.dumps({"state": "failed", "error": "no text"}))
    assert "1 run failed: `ofe status` shows them." in ofe().stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["list", "--nonsense"],
        ["plan"],
        ["show", "fig1", "--scale", "huge"],
        ["plan", "fig1", "--jobs", "0"],
        ["plan", "fig1", "--seeds", "1001"],
        ["plan", "fig1", "--time", "5"],
        ["plan", "fig1", "--sbatch", "--json"],
        ["diff", "a", "b", "--layer", "2"],
        ["diff", "fig1", "-s", "smoke", "-s", "laptop", "--metric", "kurtosis"],
        ["cache", "export", "folder", "--weights"],
        ["cache", "export", "folder", "--scale", "smoke"],
    ],
)
def test_bad_usage_exits_with_2(ofe: Ofe, arguments: list[str]) -> None:
    result = ofe(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [["cache", "import", ""], ["plot", "fig1", "--out", ""], ["plot", "fig1", "--from-cache="], ["plan", " "]],
)
def test_an_empty_word_is_not_the_current_folder(ofe: Ofe, arguments: list[str]) -> None:
    result = ofe(*arguments)
    assert result.exit_code == 2
    assert "a word of the command is empty" in result.stderr


@pytest.mark.parametrize("command", ["show", "plan", "reproduce", "plot", "verify"])
def test_an_unknown_figure_is_named_with_the_nearest_and_exits_with_2(ofe: Ofe, command: str) -> None:
    result = ofe(command, "fig1x")
    assert result.exit_code == 2
    assert result.stderr == "error: no experiment fig1x\n\nhint: did you mean fig1 or fig9?\n"


def test_an_override_that_fits_nothing_exits_with_2(ofe: Ofe) -> None:
    result = ofe("plan", "fig1", "--set", "optimizer.lr=fast")
    assert result.exit_code == 2
    assert "optimizer.lr" in result.stderr


def test_an_unknown_format_exits_with_2_before_anything_is_trained(ofe: Ofe, tmp_path: Path) -> None:
    result = ofe("reproduce", "fig1", "--format", "png,gif")
    assert result.exit_code == 2
    assert "png, svg, pdf" in result.stderr
    assert not (tmp_path / "home").exists()


def test_errors_end_in_their_exit_code_interrupts_in_130_and_defects_come_through() -> None:
    app = typer.Typer(cls=cli.Commands, pretty_exceptions_enable=False)
    causes = {
        "user": OfeError("it is so", hint="do this", exit_code=1),
        "stop": KeyboardInterrupt(),
        "bug": KeyError("x"),
    }

    @app.command()
    def fail(cause: str) -> None:
        raise causes[cause]

    @app.command()
    def other() -> None: ...

    runner = CliRunner()
    user = runner.invoke(app, ["fail", "user"])
    assert (user.exit_code, user.stderr) == (1, "error: it is so\n\nhint: do this\n")
    assert runner.invoke(app, ["fail", "stop"]).exit_code == 130
    assert isinstance(runner.invoke(app, ["fail", "bug"]).exception, KeyError)


@pytest.mark.parametrize("variables", [{}, {"OFE_HOME": "relative"}])
def test_a_current_folder_that_is_gone_is_one_sentence(tmp_path: Path, variables: dict[str, str]) -> None:
    (tmp_path / "gone").mkdir()
    script = f"cd {tmp_path / 'gone'} && rmdir {tmp_path / 'gone'} && exec {sys.executable} -m reproduce new mine.yaml"
    done = subprocess.run(["sh", "-c", script], env=child_environment(**variables), capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: the current folder is gone or cannot be read")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", ["cache dir", "schema"])
def test_an_output_that_takes_no_more_is_one_sentence(tmp_path: Path, arguments: str) -> None:
    """The limit of the size of files stands for a full disk."""
    script = f"ulimit -f 0 && exec {sys.executable} -m reproduce {arguments} > {tmp_path / 'out'}"
    done = subprocess.run(["sh", "-c", script], stderr=subprocess.PIPE, env=child_environment(), text=True)
    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written: File too large\n"


@pytest.mark.parametrize("arguments", ["list", "schema", "list --json", "verify fig2"])
def test_an_output_that_is_read_no_more_ends_the_command_without_a_word(arguments: str) -> None:
    """As in `ofe list | head`: the exit code is that of a program which SIGPIPE stopped."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "reproduce", *arguments.split()]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=child_environment(), text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_path_that_is_not_utf8_is_printed_as_it_is(tmp_path: Path) -> None:
    home = os.fsencode(tmp_path) + b"/caf\xe9"
    environment = child_environment(PYTHONIOENCODING="utf-8:strict") | {"OFE_HOME": os.fsdecode(home)}
    command = [sys.executable, "-m", "reproduce", "cache", "dir"]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert (done.returncode, done.stdout) == (0, home + b"\n"), done.stderr


def _imported(python: Process, home: Path, *arguments: str) -> set[str]:
    program = f"""
import sys
from reproduce.cli.app import app
try:
    app({list(arguments)!r})
except SystemExit as end:
    assert end.code in (0, None, 1), end.code
print("\\n" + " ".join(sys.modules))
"""
    done = python(home, "-c", program)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize("arguments", [["--help"], [], ["version"], ["list", "--help"], ["data", "list"]])
def test_help_loads_nothing_heavy(python: Process, tmp_path: Path, arguments: list[str]) -> None:
    assert _imported(python, tmp_path, *arguments).isdisjoint(HEAVY)


def test_help_does_not_even_load_the_types_of_specs(python: Process, tmp_path: Path) -> None:
    assert "pydantic" not in _imported(python, tmp_path, "--help")


@pytest.mark.parametrize("arguments", [["list"], ["show", "fig1"], ["plan", "fig1"], ["status"], ["reproduce", "fig1"]])
def test_looking_and_a_second_call_load_no_torch_and_draw_nothing(
    python: Process, reproduced: tuple[Path, object], arguments: list[str]
) -> None:
    assert _imported(python, reproduced[0], *arguments).isdisjoint({"torch", "matplotlib", "pandas"})


@pytest.mark.parametrize("arguments", [["plot", "fig1"], ["verify", "fig1"]])
def test_plot_and_verify_never_load_torch(
    python: Process, reproduced: tuple[Path, object], arguments: list[str]
) -> None:
    assert "torch" not in _imported(python, reproduced[0], *arguments)


@pytest.mark.parametrize(
    "command",
    [["measure"], ["quantise"], ["export", "--to", "folder"], ["cache", "trace"], ["diff", "toy-ln-laptop-s0"]],
)
def test_a_run_of_a_figure_that_was_not_trained_here_names_the_command_that_trains_it(
    ofe: Ofe, command: list[str]
) -> None:
    result = ofe(*command, "toy-ln-laptop-s0")
    assert result.exit_code == 2
    assert "hint: `ofe reproduce fig1 --scale laptop` trains it" in result.stderr
