"""The files of a run folder, `OFE_HOME/runs/<slug>-<key>/`.

always      run.yaml            what the run is: key, recipe, name, full configuration
training    trace.jsonl         metrics, one record a line
            moments.jsonl       second moment of every neuron at each probe
            checkpoint.pt       newest state to resume from
            checkpoint-<step>/  the same in shards, where several devices divide the state among them
            progress.json       live state for displays
            lock                locked by the process that trains
            heartbeat           which process that is, for other machines (`reproduce.store.lock`)
sealed      trace.parquet       the trace in long form
            moments.parquet     the second moments, as vectors
            provenance.json     all that may differ between two equal runs: time, machine, versions
            SHA256SUMS          checksums; written last, since a folder is sealed if and only if it has this file
if asked    keep.json           the steps whose weights are to be kept
            model.safetensors   the weights at the end of training
            model-<step>.safetensors    the weights after <step> steps
            weights.json        list of the kept weights, with their checksums
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from reproduce.errors import OfeError

RUN_NAME = re.compile(r"[^./\\][^/\\]*-[0-9a-f]{16}")
"""The names `<slug>-<key>` that a run folder may have. None begins with a dot or leads out of the store."""

RUN_YAML = "run.yaml"
LIVE_TRACE = "trace.jsonl"
LIVE_MOMENTS = "moments.jsonl"
CHECKPOINT = "checkpoint.pt"
SHARDED_CHECKPOINTS = "checkpoint-*"
PROGRESS = "progress.json"
LOCK = "lock"
HEARTBEAT = "heartbeat"
TRACE = "trace.parquet"
MOMENTS = "moments.parquet"
PROVENANCE = "provenance.json"
SUMS = "SHA256SUMS"
KEEP = "keep.json"
WEIGHTS = "weights.json"
FINAL_WEIGHTS = "model.safetensors"

CHECKED_FILES = (RUN_YAML, TRACE, MOMENTS)
"""The files that SHA256SUMS covers. They are the same in equal runs."""
SEALED_FILES = (*CHECKED_FILES, PROVENANCE, SUMS)
"""The files of a finished run, which are copied when the run is."""
LEFTOVERS = (LIVE_TRACE, LIVE_MOMENTS, CHECKPOINT, PROGRESS)
"""The files that a sealed run does not need any more, as it does not need sharded checkpoints."""


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`. There are two while one is being replaced by the next, and else at most one."""
    sharded = [path for path in folder.glob(SHARDED_CHECKPOINTS) if os.path.isdir(path)]
    return [path for path in (folder / CHECKPOINT, *sharded) if os.path.exists(path)]


def damaged(path: Path, what: str) -> OfeError:
    """The error for a file of a run folder whose content is not what was written there.

    Args:
        what: what is wrong with it, as a predicate such as "cannot be read".
    """
    return OfeError(
        f"{path} {what}",
        hint=f"copy {path.parent} again from where it came, or remove it to train the run again",
    )
