"""What `ofe` prints when it is called alone, and with `--version`."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from reproduce.errors import OfeError
from reproduce.versions import installed_version

if TYPE_CHECKING:
    from reproduce.cli.console import Ui

_COMMANDS = (
    ("ofe list", "every figure and table, with its verdicts"),
    ("ofe show fig4", "what Figure 4 claims, and what became of that"),
    ("ofe plot fig4", "draw it from the traces that came with the code, in seconds"),
    ("ofe plan fig4", "what training its runs anew would cost here"),
    ("ofe reproduce fig4", "train them, draw the figure, judge the claims"),
    ("ofe doctor", "check this installation"),
)


def version_lines() -> list[str]:
    """The versions of ofe, Python and torch, and the device that runs would use. Torch is not imported for it."""
    return [
        f"ofe {installed_version('ofe')}",
        f"Python {platform.python_version()}",
        f"torch {installed_version('torch')}, {_device()}",
    ]


def _device() -> str:
    from reproduce.environment import environment
    from reproduce.machine import this_machine
    from reproduce.units import count

    try:
        machine = this_machine(environment().device)
    except OfeError as error:
        return f"device unknown: {error.message}"
    if machine.device == "cuda" and machine.gpus:
        return f"device cuda: {count(len(machine.gpus), 'GPU')}"
    return f"device {machine.device}: {machine.cpu}, {count(machine.cores, 'core')}"


def what_next(ui: Ui) -> None:
    """Print what ofe is, and what to type next: what is unfinished first, then a tour."""
    ui.prose(
        "ofe re-makes the figures of 'Understanding and Minimising Outlier Features in Neural Network Training' "
        "(arXiv 2405.19279), and says for each of the paper's claims whether it held."
    )
    ui.line()
    unfinished = _unfinished()
    if unfinished:
        ui.line(unfinished)
        ui.line()
    ui.columns([[f"  {command}", text] for command, text in _COMMANDS], widths=[22])
    ui.line()
    ui.line("`ofe --help` lists all commands, `ofe COMMAND --help` explains one.")


def _unfinished() -> str:
    """A sentence about runs in OFE_HOME that are running or could go on; empty where there are none."""
    from reproduce.cli.selection import store
    from reproduce.units import count

    try:
        states = [folder.state for folder in store().list() if not folder.sealed]
    except OfeError:
        return ""
    known = {"running": "running", "resumable": "stopped and can go on", "failed": "failed"}
    told = [f"{count(states.count(state), 'run')} {text}" for state, text in known.items() if state in states]
    return f"{', '.join(told)}: `ofe status` shows them." if told else ""
