"""Bookkeeping of the weights that a training keeps: which are wanted, which are there, and whether they are undamaged.

    keep.json       {"steps": [10, 20]}                    written by whoever wants weights, before or after training
    weights.json    {"end": 20, "same_trace": true, "files": {"10": {"name": ..., "sha256": ...}, ...}}

A step is the number of optimiser steps taken: 0 is the initialisation, and the run's last step has its final weights.
Weights are neither part of a run's key nor listed in its SHA256SUMS, because keeping them changes none of its numbers.
Nothing here imports torch. `reproduce.training.weights` writes and reads the tensors.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reproduce.errors import OfeError
from reproduce.store.atomic import file_hash, write_json
from reproduce.store.home import explain_os_errors
from reproduce.store.json_text import loads
from reproduce.store.layout import FINAL_WEIGHTS, KEEP, WEIGHTS
from reproduce.store.regular import text_of


@dataclass(frozen=True)
class Weights:
    """The content of weights.json."""

    files: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Step -> name and SHA-256 of the file with the weights after that step."""
    end: int | None = None
    """The step at which training ended, or None if it has not ended."""
    same_trace: bool | None = None
    """Whether the training that wrote the weights gave the trace that is sealed beside them. None before the seal.

    The two can differ only if the training was repeated for its weights, for instance with another number of threads.
    """

    def lacks(self, wanted: Iterable[int]) -> list[int]:
        """The steps of `wanted` whose weights are missing. Steps that training never reached are not counted."""
        return sorted(step for step in wanted if step not in self.files and (self.end is None or step <= self.end))


def lacking(folder: Path, wanted: Iterable[int]) -> list[int]:
    """The steps of `wanted` whose weights `folder` should have and has not: not listed, or listed and gone.

    Raises:
        OfeError: weights.json is damaged.
    """
    weights = read_weights(folder)
    there = {step: entry for step, entry in weights.files.items() if (folder / entry[0]).is_file()}
    return replace(weights, files=there).lacks(wanted)


def file_name(step: int, last_step: int) -> str:
    """Name of the file with the weights after `step` steps of a run with `last_step` steps."""
    return FINAL_WEIGHTS if step == last_step else f"model-{step}.safetensors"


def wanted_steps(folder: Path) -> frozenset[int]:
    """The steps whose weights the run in `folder` was asked to keep.

    Raises:
        OfeError: keep.json is damaged.
    """
    content = _read(folder / KEEP) or {"steps": []}
    try:
        return frozenset(int(step) for step in content["steps"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder / KEEP, "names no steps") from error


def want_steps(folder: Path, steps: Iterable[int]) -> None:
    """Ask the run in `folder` to keep the weights of `steps`, in addition to those that it was asked for before."""
    before = wanted_steps(folder)
    if not before.issuperset(after := before.union(steps)):
        write_json(folder / KEEP, {"steps": sorted(after)})


def read_weights(folder: Path) -> Weights:
    """The content of weights.json in `folder`. A folder without that file keeps no weights.

    Raises:
        OfeError: the file is damaged.
    """
    content = _read(folder / WEIGHTS)
    if content is None:
        return Weights()
    try:
        files = {int(step): (str(entry["name"]), str(entry["sha256"])) for step, entry in content["files"].items()}
        if any(Path(name).name != name for name, _ in files.values()):
            raise ValueError("a name that leads out of the folder")
        return Weights(files, content["end"], content["same_trace"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(folder / WEIGHTS, "does not list the weights") from error


def write_weights(folder: Path, weights: Weights) -> None:
    """Write weights.json. The files that it lists have to be complete by then."""
    files = {str(step): {"name": name, "sha256": digest} for step, (name, digest) in sorted(weights.files.items())}
    write_json(folder / WEIGHTS, {"end": weights.end, "same_trace": weights.same_trace, "files": files})


def weights_file(folder: Path, step: int) -> Path:
    """The file with the weights after `step` steps, checked against its checksum.

    Raises:
        OfeError: these weights were not kept, the run ended before that step, or the file is damaged.
    """
    weights = read_weights(folder)
    if step not in weights.files:
        if weights.end is not None and step > weights.end:
            raise OfeError(f"{folder.name} ended at step {weights.end}, before step {step}")
        kept = f"only those of steps {', '.join(map(str, sorted(weights.files)))}" if weights.files else "none"
        raise OfeError(
            f"{folder.name} has not kept its weights of step {step}, {kept}",
            hint="`ofe reproduce` with `--keep-weights` trains the run again and keeps its final weights",
        )
    check_weights_file(folder, *weights.files[step])
    return folder / weights.files[step][0]


def check_weights(folder: Path) -> None:
    """Compare all weights of `folder` with their checksums.

    Raises:
        OfeError: a file is missing or damaged. The message names it.
    """
    for name, digest in read_weights(folder).files.values():
        check_weights_file(folder, name, digest)


def check_weights_file(folder: Path, name: str, digest: str) -> None:
    """Compare the file `name` of kept weights with its SHA-256.

    Raises:
        OfeError: the file is missing or damaged.
    """
    path = folder / name
    hint = f"remove {folder / WEIGHTS}: the run is then trained again when its weights are asked for"
    if not path.is_file():
        raise OfeError(f"{path} is missing", hint=hint)
    if file_hash(path) != digest:
        raise OfeError(f"{path} is not what was kept: its checksum differs", hint=hint)


def drop_weights(folder: Path) -> int:
    """Remove the weights of a run and the request to keep them, and return how many bytes that frees."""
    # The list goes before the files, so that it never names weights that are gone.
    paths = [folder / WEIGHTS, folder / KEEP, *folder.glob("model*.safetensors")]
    freed = sum(path.stat().st_size for path in paths if path.is_file())
    with explain_os_errors(folder):
        for path in paths:
            path.unlink(missing_ok=True)
    return freed


def _damaged(path: Path, what: str) -> OfeError:
    """The error for keep.json or weights.json. The trace beside it is whole, so only this file has to go."""
    return OfeError(f"{path} {what}", hint=f"remove that file: rm {shlex.quote(str(path))}")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = loads(text_of(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(path, "cannot be read") from error
    if not isinstance(content, dict):
        raise _damaged(path, "is not a JSON object")
    return content
