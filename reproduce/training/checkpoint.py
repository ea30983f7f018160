"""The newest state of a training, replaced as a whole: a kill while it is written leaves the one before.

    checkpoint.pt          all of it, where one device holds all of it (a single process, or DDP: the chief writes)
    checkpoint-<step>/     under FSDP2, by `torch.distributed.checkpoint`: each process writes its shards, the chief
                           `rest.pt`; the folder gets its name when it is complete

Either is read by any number of processes in any mode: what is whole is cut, and what is cut is put together, by the
names of the parameters.
"""

from __future__ import annotations

import os
import pickle
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from reproduce.errors import OfeError
from reproduce.parallel import group
from reproduce.store.atomic import replacing, sync
from reproduce.store.home import explain_os_errors
from reproduce.store.layout import CHECKPOINT, checkpoints, damaged

if TYPE_CHECKING:
    from reproduce.environment import Mode

REST = "rest.pt"


def save(folder: Path, model: nn.Module, optimizer: Optimizer, rest: dict[str, Any], mode: Mode | None) -> None:
    """Write weights, optimiser state and `rest` to the run folder; all processes take part.

    Args:
        rest: of the chief, with the `step`.

    Raises:
        OfeError: the disk is full or cannot be written; the checkpoint before stays.
    """
    if mode == "fsdp":
        path = _save_shards(folder, model, optimizer, rest)
    else:
        path = folder / CHECKPOINT
        if group.chief():
            _write(path, rest | {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    if group.chief():
        for old in checkpoints(folder):
            if old != path:
                _remove(old)
    group.wait()


def load(
    folder: Path, model: nn.Module, optimizer: Optimizer, device: torch.device, mode: Mode | None
) -> dict[str, Any] | None:
    """Put the run folder's newest checkpoint into `model` and `optimizer`, and return its rest; None without one.

    Raises:
        OfeError: the checkpoint is damaged.
    """
    path = group.from_chief(_newest(folder) if group.chief() else None)
    if path is None:
        return None
    if path.is_dir():
        return _load_shards(path, model, optimizer)
    return _load_whole(path, model, optimizer, device, mode)


@contextmanager
def of_this_version(folder: Path) -> Iterator[None]:
    """Explain what goes wrong inside where a checkpoint of `folder` does not have what this version puts there.

    Raises:
        OfeError: parameters, groups or fields are missing or have another shape.
    """
    try:
        yield
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        path = next(iter(checkpoints(folder)), None)
        if path is None:
            raise
        raise OfeError(
            f"{path} is of another model or was written by another version of ofe",
            hint=f"remove {path} to train the run again from its beginning, or use the version that wrote it",
        ) from error


def _newest(folder: Path) -> Path | None:
    """The checkpoint of the latest step: there are two where a kill came between writing one and removing the other."""
    found = checkpoints(folder)
    return max(found, key=_step) if len(found) > 1 else next(iter(found), None)


def _step(path: Path) -> int:
    if path.is_dir():
        return int(path.name.partition("-")[2])
    return _read(path, torch.device("cpu"), mmap=True)["step"]


def _read(path: Path, device: torch.device, *, mmap: bool = False) -> dict[str, Any]:
    try:
        return torch.load(path, map_location=device, weights_only=True, mmap=mmap)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise damaged(path, "cannot be read") from error


def _write(path: Path, state: dict[str, Any]) -> None:
    with explain_os_errors(path), replacing(path) as aside, open(aside, "wb") as file:
        torch.save(state, file)


def _remove(path: Path) -> None:
    with explain_os_errors(path):
        if not path.is_dir():
            path.unlink()
            return
        condemned = path.with_name(f".{path.name}.removed.tmp")  # never a part of it under its name
        os.replace(path, condemned)
        shutil.rmtree(condemned)


# ---------------------------------------------------------------------------------------------------
# Whole


def _load_whole(
    path: Path, model: nn.Module, optimizer: Optimizer, device: torch.device, mode: Mode | None
) -> dict[str, Any]:
    if mode != "fsdp":
        state = _read(path, device)
        model.load_state_dict(state.pop("model"))
        optimizer.load_state_dict(state.pop("optimizer"))
        return state
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        set_model_state_dict,
        set_optimizer_state_dict,
    )

    state = _read(path, torch.device("cpu"), mmap=True)
    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(model, state.pop("model"), options=options)
    by_number = state.pop("optimizer")
    if by_number["state"]:
        set_optimizer_state_dict(model, optimizer, _by_name(by_number, model, optimizer), options=options)
    return state


def _by_name(state: dict[str, Any], model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """An optimiser's state with the names of the parameters in place of their numbers."""
    name_of = {parameter: name for name, parameter in model.named_parameters()}
    names = [name_of[parameter] for part in optimizer.param_groups for parameter in part["params"]]
    return {
        "state": {names[number]: entry for number, entry in state["state"].items()},
        "param_groups": [
            part | {"params": [names[number] for number in part["params"]]} for part in state["param_groups"]
        ],
    }


# ---------------------------------------------------------------------------------------------------
# In shards


def _save_shards(folder: Path, model: nn.Module, optimizer: Optimizer, rest: dict[str, Any]) -> Path:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    step = group.from_chief(rest["step"])
    path, aside = folder / f"checkpoint-{step}", folder / f".checkpoint-{step}.tmp"
    if group.from_chief(path.exists()):
        return path
    if group.chief():
        shutil.rmtree(aside, ignore_errors=True)
    group.wait()
    try:
        dcp.save(_state(model, optimizer, optimizer.state), checkpoint_id=aside)
    except CheckpointException as error:
        cause = next((failure for failure, _ in error.failures.values()), error)
        with explain_os_errors(path):
            if isinstance(cause, OSError):
                raise cause from error
            raise OfeError(f"{path} could not be written: {cause}") from error
    if group.chief():
        _write(aside / REST, rest | {"optimizer_started": bool(optimizer.state)})
        with explain_os_errors(path):
            sync(aside)
            os.replace(aside, path)
            sync(folder)
    return path


def _load_shards(path: Path, model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict import set_model_state_dict, set_optimizer_state_dict

    rest = _read(path / REST, torch.device("cpu"))
    state = _state(model, optimizer, rest.pop("optimizer_started"))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # as it is for one process
            dcp.load(state, checkpoint_id=path, no_dist=group.size() == 1)
    except CheckpointException as error:
        raise damaged(path, "cannot be read") from error
    set_model_state_dict(model, state["model"])
    if "optimizer" in state:
        set_optimizer_state_dict(model, optimizer, state["optimizer"])
    return rest


def _state(model: nn.Module, optimizer: Optimizer, started: object) -> dict[str, Any]:
    """Weights and, once it has `started`, optimiser state, by the names of the parameters.

    Asked for a state that is not there, torch makes one by a step of its own, which would count.
    """
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict

    state: dict[str, Any] = {"model": get_model_state_dict(model)}
    if started:
        state["optimizer"] = get_optimizer_state_dict(model, optimizer)
    return state
