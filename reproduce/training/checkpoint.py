"""The checkpoint of a training. Only the newest is kept, and a process killed while writing leaves the one before.

    checkpoint.pt          the whole state, where one device holds all of it: in a single process, and under DDP, where
                           the chief (the process of rank 0) writes it
    checkpoint-<step>/     the state in shards, under FSDP2: each process writes its shards by
                           `torch.distributed.checkpoint`, the chief also writes `rest.pt`, and the folder gets its name
                           when it is complete

The file of a whole state ends with its SHA-256, and `rest.pt` also holds those of the shards beside it: torch reads a
file in which bits have changed, and computes on.

Either form can be read by any number of processes in any mode. A whole state is cut into shards, and shards are put
together, by the names of the parameters.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from reproduce.errors import OfeError
from reproduce.parallel import group
from reproduce.store.atomic import file_hash, replacing, sync
from reproduce.store.home import explain_os_errors
from reproduce.store.layout import CHECKPOINT, checkpoints
from reproduce.store.regular import open_regular

if TYPE_CHECKING:
    from reproduce.environment import Mode

_MARK = b"SHA-256:"
REST = "rest.pt"
"""The file of a sharded checkpoint with everything that is not divided among the processes."""


def save(folder: Path, model: nn.Module, optimizer: Optimizer, rest: dict[str, Any], mode: Mode | None) -> None:
    """Write weights, optimiser state and `rest` to the run folder. All processes have to call this.

    Args:
        rest: everything else that a resumption needs, `step` among it. The chief's is written.

    Raises:
        OfeError: the disk is full or cannot be written. The previous checkpoint stays.
    """
    if mode == "fsdp":
        path = _save_shards(folder, model, optimizer, rest)
    else:
        path = folder / CHECKPOINT
        if group.chief():
            _write(path, rest | {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    if group.chief():
        # The previous checkpoint goes only once the new one is complete, so that one of them is always there.
        for old in checkpoints(folder):
            if old != path:
                _remove(old)
    group.wait()  # no process trains on while the chief may still fail to write


def load(
    folder: Path, model: nn.Module, optimizer: Optimizer, device: torch.device, mode: Mode | None
) -> dict[str, Any] | None:
    """Load the newest checkpoint of the run folder into `model` and `optimizer`. All processes have to call this.

    Returns:
        The `rest` that was saved with it, or None if there is no checkpoint.

    Raises:
        OfeError: the checkpoint is damaged.
    """
    # The chief chooses for all: processes that look at the folder themselves might see different files.
    path = group.from_chief(_newest(folder) if group.chief() else None)
    if path is None:
        return None
    if path.is_dir():
        return _load_shards(path, model, optimizer)
    return _load_whole(path, model, optimizer, device, mode)


@contextmanager
def of_this_version(folder: Path) -> Iterator[None]:
    """Turn errors of loading a checkpoint that does not fit this version of the code into one that a user understands.

    Raises:
        OfeError: parameters, groups or fields are missing, or have another shape, in a checkpoint of `folder`.
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
    """The checkpoint of the latest step.

    There are two checkpoints if the process was killed after writing one and before removing the other.
    """
    found = checkpoints(folder)
    return max(found, key=_step) if len(found) > 1 else next(iter(found), None)


def _step(path: Path) -> int:
    if path.is_dir():
        return int(path.name.partition("-")[2])
    return _read(path, torch.device("cpu"), mmap=True)["step"]  # mapped: the tensors are not read


def _read(path: Path, device: torch.device, *, mmap: bool = False) -> dict[str, Any]:
    try:
        _check_digest(path)
        return torch.load(path, map_location=device, weights_only=True, mmap=mmap)
    except Exception as error:  # the bytes of a damaged file may mean anything to the reader
        raise _unreadable(path) from error


def _unreadable(path: Path) -> OfeError:
    whole = path.parent if path.name == REST else path
    again = f"remove it, and the run starts again from its beginning: rm -r {shlex.quote(str(whole))}"
    return OfeError(f"{path} cannot be read", hint=again)


def _differs(path: Path, digest: str) -> bool:
    """Whether a file is missing or has another SHA-256."""
    try:
        return file_hash(path) != digest
    except OSError:
        return True


def _write(path: Path, state: dict[str, Any]) -> None:
    with replacing(path, needs=_bytes(state)) as aside, open(aside, "wb") as file:
        watched = _Watched(file)
        try:
            torch.save(state, cast("IO[bytes]", watched))
            watched.write(_MARK + watched.digest.digest())  # readers of zip files pass over what follows
        except RuntimeError as error:  # torch says "unexpected pos" of a write that the system has refused
            raise watched.refused or error from error


def _check_digest(path: Path) -> None:
    """Compare the content of a checkpoint with the SHA-256 at its end.

    Raises:
        ValueError: it differs, or the end is missing.
    """
    length = len(_MARK) + hashlib.sha256().digest_size
    left = path.stat().st_size - length
    content = hashlib.sha256()
    with open_regular(path) as file:
        while left > 0 and (block := file.read(min(left, 2**20))):
            content.update(block)
            left -= len(block)
        if file.read() != _MARK + content.digest():
            raise ValueError("its checksum differs")


def _bytes(value: object) -> int:
    """Size of all tensors in `value`, in bytes."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(_bytes, parts))


class _Watched:
    """A file that remembers the error with which the system refused a write, which torch does not pass on."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.refused: OSError | None = None
        self.digest = hashlib.sha256()
        """Of what has been written so far, all of it in order."""

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.refused = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _remove(path: Path) -> None:
    with explain_os_errors(path):
        if not path.is_dir():
            path.unlink()
            return
        # The folder is renamed first: a kill during removal must not leave half a checkpoint under a valid name.
        condemned = path.with_name(f".{path.name}.removed.tmp")
        os.replace(path, condemned)
        shutil.rmtree(condemned)


# ---------------------------------------------------------------------------------------------------
# Whole states


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

    # Each process reads the file on the host and keeps its own shards of every tensor.
    state = _read(path, torch.device("cpu"), mmap=True)
    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(model, state.pop("model"), options=options)
    by_number = state.pop("optimizer")
    if by_number["state"]:  # it is empty before the first step, and torch would take a step to fill it (see `_state`)
        set_optimizer_state_dict(model, optimizer, _by_name(by_number, model, optimizer), options=options)
    return state


def _by_name(state: dict[str, Any], model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """The state of an optimiser with parameters identified by name, as torch's distributed functions expect it.

    `Optimizer.state_dict` identifies parameters by number, counting through the parameter groups in their order.
    """
    name_of = {parameter: name for name, parameter in model.named_parameters()}
    names = [name_of[parameter] for part in optimizer.param_groups for parameter in part["params"]]
    return {
        "state": {names[number]: entry for number, entry in state["state"].items()},
        "param_groups": [
            part | {"params": [names[number] for number in part["params"]]} for part in state["param_groups"]
        ],
    }


# ---------------------------------------------------------------------------------------------------
# States in shards


def _save_shards(folder: Path, model: nn.Module, optimizer: Optimizer, rest: dict[str, Any]) -> Path:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    step = group.from_chief(rest["step"])
    path, aside = folder / f"checkpoint-{step}", folder / f".checkpoint-{step}.tmp"
    if group.from_chief(path.exists()):  # this step was saved before; steps determine states
        return path
    if group.chief():
        shutil.rmtree(aside, ignore_errors=True)  # what an attempt that was killed has left
    group.wait()  # nobody writes into the folder before it is gone
    try:
        dcp.save(_state(model, optimizer, optimizer.state), checkpoint_id=aside)
    except CheckpointException as error:
        # It holds the failures of all ranks; the first one is told, an error of the disk in our own words.
        cause = next((failure for failure, _ in error.failures.values()), error)
        with explain_os_errors(path):
            if isinstance(cause, OSError):
                raise cause from error
            raise OfeError(f"{path} could not be written: {cause}") from error
    names = group.from_chief(sorted(os.listdir(aside)) if group.chief() else [])
    mine = {name: file_hash(aside / name) for name in names[group.rank() :: group.size()]}
    sums = {name: digest for part in group.gathered(mine) for name, digest in part.items()}
    if group.chief():
        _write(aside / REST, rest | {"optimizer_started": bool(optimizer.state), "sums": sums})
        with explain_os_errors(path):
            # The content has to be on the disk before the name says that it is complete.
            sync(aside)
            os.replace(aside, path)
            sync(folder)
    return path


def _load_shards(path: Path, model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict import set_model_state_dict, set_optimizer_state_dict

    rest = _read(path / REST, torch.device("cpu"))
    sums = rest.pop("sums", {})  # a checkpoint of an earlier version has none
    mine = sorted(sums)[group.rank() :: group.size()]
    if group.anyone(any(_differs(path / name, sums[name]) for name in mine))[0]:
        raise _unreadable(path)
    state = _state(model, optimizer, rest.pop("optimizer_started"))
    try:
        with warnings.catch_warnings():
            # A single process may read shards, and torch warns of that.
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            dcp.load(state, checkpoint_id=path, no_dist=group.size() == 1)
    except CheckpointException as error:
        raise _unreadable(path) from error
    set_model_state_dict(model, state["model"])
    if "optimizer" in state:
        set_optimizer_state_dict(model, optimizer, state["optimizer"])
    return rest


def _state(model: nn.Module, optimizer: Optimizer, started: object) -> dict[str, Any]:
    """Weights by the names of the parameters and, if the optimiser has `started`, its state.

    The state of an optimiser that has not taken a step must not be asked for. torch would take a step to create it,
    and that step would count in the state.
    """
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict

    state: dict[str, Any] = {"model": get_model_state_dict(model)}
    if started:
        state["optimizer"] = get_optimizer_state_dict(model, optimizer)
    return state
