"""The files of a run folder, `OFE_HOME/runs/<slug>-<key>/`.

always      run.yaml            what the run is: key, recipe, name, full configuration
training    trace.jsonl         metrics, one record a line
            moments.jsonl       second moment of every neuron at each probe
            checkpoint.pt       newest state to resume from
            checkpoint-<step>/  the same, in the parts that several devices hold of it
            progress.json       live state for displays
            lock                held by the process that trains
sealed      trace.parquet       the trace in long form
            moments.parquet
            provenance.json     all that may differ between two equal runs: time, machine, versions
            SHA256SUMS          written last: a folder that has it is sealed, one without it is not
if asked    keep.json           the steps whose weights are to be kept
            model.safetensors   the weights at the end of training
            model-<step>.safetensors    the weights after so many steps
            weights.json        which weights there are, with their checksums
"""

from __future__ import annotations

from pathlib import Path

from reproduce.errors import OfeError

RUN_YAML = "run.yaml"
LIVE_TRACE = "trace.jsonl"
LIVE_MOMENTS = "moments.jsonl"
CHECKPOINT = "checkpoint.pt"
SHARDED_CHECKPOINTS = "checkpoint-*"
PROGRESS = "progress.json"
LOCK = "lock"
TRACE = "trace.parquet"
MOMENTS = "moments.parquet"
PROVENANCE = "provenance.json"
SUMS = "SHA256SUMS"
KEEP = "keep.json"
WEIGHTS = "weights.json"
FINAL_WEIGHTS = "model.safetensors"

CHECKED_FILES = (RUN_YAML, TRACE, MOMENTS)
"""What SHA256SUMS covers: the files that equal runs have in common."""
SEALED_FILES = (*CHECKED_FILES, PROVENANCE, SUMS)
"""All that a finished run is; what travels when it is copied."""
LEFTOVERS = (LIVE_TRACE, LIVE_MOMENTS, CHECKPOINT, PROGRESS)
"""What has no use once a run is sealed, beside sharded checkpoints."""


def checkpoints(folder: Path) -> list[Path]:
    """States that training can go on from; there are two for as long as one is being replaced by the next."""
    sharded = [path for path in folder.glob(SHARDED_CHECKPOINTS) if path.is_dir()]
    return [path for path in (folder / CHECKPOINT, *sharded) if path.exists()]


def damaged(path: Path, what: str) -> OfeError:
    """The error for a file of a run folder that is not what was written there."""
    return OfeError(
        f"{path} {what}",
        hint=f"copy {path.parent} again from where it came, or remove it to train the run again",
    )
