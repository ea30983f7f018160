"""What is installed, which devices, which data, and what to do next: a list of checks, none of which ever raises.

Every check reads something small. Nothing is created, downloaded or imported for it; what only torch can tell is
asked of a process of its own, and only when the caller wants to wait for that.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from reproduce.config import DataConfig
from reproduce.environment import VARIABLES, environment, threads
from reproduce.errors import OfeError
from reproduce.machine import Machine, best_precision
from reproduce.plan.calibration import calibration_file, load
from reproduce.processes import child_environment
from reproduce.specs.load import list_experiments
from reproduce.specs.resolve import fingerprint_if_any, resolve
from reproduce.specs.schema import SCALES
from reproduce.store.home import expanded, ofe_home
from reproduce.store.reference import read_index, reference_root
from reproduce.store.runs import RunFolder, Store
from reproduce.units import count

CheckStatus = Literal["ok", "warn", "fail"]

MIN_PYTHON = (3, 11)
MIN_FREE_BYTES = 1_000_000_000
"""Less free disk than this is worth a warning: all laptop runs and the prepared text take about as much."""
_WAITING = {"resumable", "failed"}
"""States of a run that somebody has to start again."""
MIN_MEMORY_BYTES = 2_000_000_000
TORCH_TIMEOUT_S = 60.0
_TORCH_FACTS = """
import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({"version": torch.__version__, "cuda": cuda, "threads": torch.get_num_threads(),
                  "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
                  "bf16": torch.cuda.is_bf16_supported() if cuda else None}))
"""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: CheckStatus
    detail: str
    hint: str = ""
    """What to do about it, or with it."""

    def as_json(self) -> dict[str, str]:
        return dict(vars(self))


def examine(machine: Machine, *, deep: bool = False) -> list[Check]:
    """All checks, in the order in which they should be read; the last one says what to do next.

    Args:
        machine: the one that this process runs on.
        deep: also load torch in a process of its own and ask it for its devices, which takes some seconds.
    """
    parts: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("python", _python),
        ("packages", _packages),
        ("processor", partial(_processor, machine)),
        ("devices", partial(_devices, machine)),
        *([("torch", partial(_torch, machine))] if deep else []),
        ("environment", _environment),
        ("home", _home),
        ("specs", partial(_specs, machine)),
        ("reference traces", _references),
        ("data", partial(_data, machine)),
        ("hub", _hub),
        ("calibration", partial(_calibration, machine)),
        ("runs", _runs),
    ]
    checks: list[Check] = []
    for name, part in parts:
        try:
            checks += part()
        except OfeError as error:
            checks.append(Check(name, "fail", error.message, error.hint or ""))
        except OSError as error:
            checks.append(Check(name, "fail", str(error), "check the permissions of that path"))
    return [*checks, _next(checks)]


# ---------------------------------------------------------------------------------------------------
# The machine


def _python() -> Iterator[Check]:
    old = sys.version_info < MIN_PYTHON
    hint = f"install Python {'.'.join(map(str, MIN_PYTHON))} or later" if old else ""
    yield Check("python", "fail" if old else "ok", f"{platform.python_version()} at {sys.executable}", hint)


def _packages() -> Iterator[Check]:
    """The packages that ofe's own metadata asks for, without its extras."""
    try:
        asked = [line for line in requires("ofe") or [] if "extra ==" not in line]
    except PackageNotFoundError:
        yield Check("packages", "fail", "ofe is not installed", "run `pip install -e .` in the clone")
        return
    found, wrong = [], []
    for line in asked:
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        bound = re.search(r">=\s*([\w.]+)", line)
        least = bound[1] if bound else ""
        try:
            have = version(name)
        except PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        found.append(f"{name} {have}")
        if _release(have) < _release(least):
            wrong.append(f"{name} {have} is older than {least}")
    if wrong:
        yield Check("packages", "fail", "; ".join(wrong), "run `pip install ofe` again")
    else:
        yield Check("packages", "ok", ", ".join(found))


def _release(version: str) -> tuple[int, ...]:
    """2.13.0+cpu -> (2, 13, 0)."""
    return tuple(map(int, re.findall(r"\d+", version.split("+")[0])))


def _processor(machine: Machine) -> Iterator[Check]:
    yield Check("processor", "ok", f"{machine.cpu}, {count(machine.cores, 'core')}")
    small = machine.memory_bytes < MIN_MEMORY_BYTES
    hint = "train one run at a time (`--jobs 1`)" if small else ""
    yield Check("memory", "warn" if small else "ok", f"{machine.memory_bytes / 1e9:.1f} GB", hint)


def _devices(machine: Machine) -> Iterator[Check]:
    if machine.gpus:
        names = ", ".join(f"{gpu.name} ({gpu.memory_bytes / 1e9:.0f} GB)" for gpu in machine.gpus)
        yield Check("devices", "ok", names)
    else:
        yield Check("devices", "ok", "no accelerator: runs train on the processor", "laptop scale is made for it")
    precision = best_precision(machine)
    emulated = "" if precision == "bf16" else "; bf16 would be emulated"
    yield Check("precision", "ok", f"precision auto means {precision} here{emulated}")


def _torch(machine: Machine) -> Iterator[Check]:
    command = [sys.executable, "-c", _TORCH_FACTS]
    try:
        done = subprocess.run(
            command, env=child_environment(), capture_output=True, text=True, timeout=TORCH_TIMEOUT_S, check=True
        )
        facts = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        yield Check("torch", "fail", f"torch cannot be loaded: {''.join(said)}", "install torch again")
        return
    devices = ", ".join(facts["devices"]) or "no CUDA device"
    detail = f"{facts['version']}, {devices}, {facts['threads']} threads"
    blind = bool(machine.gpus) and not facts["cuda"]
    hint = "install a build of torch for this driver, or set OFE_DEVICE=cpu" if blind else ""
    yield Check("torch", "warn" if blind else "ok", detail, hint)


# ---------------------------------------------------------------------------------------------------
# State


def _environment() -> Iterator[Check]:
    set_here = [f"{name}={os.environ[name]}" for name in VARIABLES if os.environ.get(name)]
    environment()
    threads()
    yield Check("environment", "ok", ", ".join(set_here) or "no variable changes how runs are executed")


def _home() -> Iterator[Check]:
    home = ofe_home()
    there = next(path for path in (home, *home.parents) if path.exists())
    hint = "set OFE_HOME to a folder of your own"
    if not there.is_dir():
        yield Check("home", "fail", f"{there} is a file, not a folder", hint)
        return
    if not os.access(there, os.W_OK | os.X_OK):
        yield Check("home", "fail", f"no permission to write {there}", hint)
        return
    yield Check("home", "ok", str(home) if home == there else f"{home}, made when it is needed")
    free = shutil.disk_usage(there).free
    low = free < MIN_FREE_BYTES
    hint = "free some space, or set OFE_HOME to another disk" if low else ""
    yield Check("disk", "warn" if low else "ok", f"{free / 1e9:.1f} GB free", hint)


def _specs(machine: Machine) -> Iterator[Check]:
    experiments = list_experiments()
    for experiment in experiments:
        resolve(experiment, "laptop", fingerprint=lambda data: "", machine=machine)
    if experiments:
        yield Check("specs", "ok", f"{len(experiments)} figures and tables, all valid")
    else:
        yield Check("specs", "fail", "no specs found", "run from a clone, or unset OFE_EXPERIMENTS")


def _references() -> Iterator[Check]:
    counts = {scale: len(read_index(scale, reference_root())) for scale in SCALES}
    found = ", ".join(f"{count} at {scale}" for scale, count in counts.items() if count)
    if found:
        yield Check("reference traces", "ok", found, "`ofe plot` draws from them without training")
    else:
        yield Check("reference traces", "warn", "none found", "figures appear after `ofe reproduce`")


def _data(machine: Machine) -> Iterator[Check]:
    """Whether the text and the images of the laptop scale are prepared."""
    from reproduce.data import prepared_folder

    wanted: dict[str, list[DataConfig]] = {}
    for experiment in list_experiments():
        for run in resolve(experiment, "laptop", fingerprint=fingerprint_if_any, machine=machine).runs:
            if run.training is not None:
                wanted.setdefault(run.training.data.source, []).append(run.training.data)
    for source, datas in wanted.items():
        name = f"data {source}"
        if not all(data.fingerprint for data in datas):
            yield Check(name, "warn", "cannot be had here", "`ofe data check` on a figure that reads it says why")
        elif all(prepared_folder(data).is_dir() for data in datas):
            yield Check(name, "ok", "prepared")
        else:
            yield Check(name, "ok", "at hand, prepared when a run first needs it")


def _hub() -> Iterator[Check]:
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    given = os.environ.get("HF_HUB_CACHE") or os.environ.get("HF_HOME")
    root = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or "~/.cache/huggingface") / "hub"
    try:
        cache = expanded(str(root))
    except OfeError as error:
        if given:
            raise
        hint = "set HF_HOME to a folder, if data of the hub are wanted"
        yield Check("hub", "warn", f"no folder for data sets: {error.message}", hint)
        return
    kept = sorted(path.name.removeprefix("datasets--").replace("--", "/") for path in cache.glob("datasets--*"))
    detail = f"data sets in the cache: {', '.join(kept)}" if kept else "no data sets in the cache"
    detail = f"offline, {detail}" if offline else detail
    yield Check("hub", "ok", detail, "" if kept else "only the workstation and paper scales need any")


def _calibration(machine: Machine) -> Iterator[Check]:
    rates = load(machine).rates
    if rates:
        yield Check("calibration", "ok", f"measured for {', '.join(sorted(rates))}")
    else:
        damaged = calibration_file().exists()
        detail = f"{calibration_file()} says nothing of this machine" if damaged else "not measured"
        example = _example()
        how = f"`ofe plan {example} --measure`" if example else "`ofe plan` with `--measure`"
        hint = f"{how} takes it in some seconds; until then times are a guess"
        yield Check("calibration", "warn", detail, hint)


def _runs() -> Iterator[Check]:
    states = [folder.state for folder in Store(ofe_home()).list()]
    counts = {state: states.count(state) for state in ("sealed", "running", "resumable", "failed") if state in states}
    detail = ", ".join(f"{count} {state}" for state, count in counts.items()) or "none yet"
    waiting = counts.keys() & _WAITING
    yield Check("runs", "warn" if waiting else "ok", detail, "`ofe status` shows them" if waiting else "")


def _next(checks: list[Check]) -> Check:
    broken = next((check for check in checks if check.status == "fail"), None)
    if broken is not None:
        return Check("next", "fail", f"put {broken.name} right first", broken.hint)
    by_name = {check.name: check for check in checks}
    if by_name["runs"].status == "warn":
        return Check("next", "ok", "some runs are unfinished", _how_to_go_on())
    if by_name["runs"].detail == "none yet" and (example := _example()):
        return Check("next", "ok", "ready", f"`ofe plan {example}`, then `ofe reproduce {example}`")
    return Check("next", "ok", "ready", "`ofe list` shows what is done and what is left")


def _how_to_go_on() -> str:
    """What continues the unfinished runs: figures train theirs, while models are measured by commands of their own."""
    commands = {"train": "ofe reproduce", "measure": "ofe measure", "quantise": "ofe quantise"}
    kinds = {_kind(folder) for folder in Store(ofe_home()).list() if folder.state in _WAITING}
    if kinds == {"train"}:
        return "`ofe reproduce` of their figure continues them"
    named = " or ".join(f"`{command}`" for kind, command in commands.items() if kind in kinds)
    return f"{named} as it was typed before continues them"


def _kind(folder: RunFolder) -> str:
    """The kind of a job; that of a folder whose description is damaged counts as a training."""
    try:
        return str(folder.read_run_yaml().get("kind", "train"))
    except OfeError:
        return "train"


def _example() -> str | None:
    """The id of the first experiment of trainings, for hints. None if there is none or specs are invalid."""
    try:
        return next((one.id for one in list_experiments() if one.runs and one.kind == "training"), None)
    except (OfeError, OSError):
        return None  # the check of the specs reports this
