"""What a user names when naming a model, and by what the cache knows it again. Nothing here imports torch.

    locate("HuggingFaceTB/SmolLM2-135M")          a repository of the Hugging Face hub, by its commit
    locate("models/mine")                         a folder in its format, by the hash of its files
    locate("SmolLM2.Q4_1.gguf")                   a GGUF file, by its hash
    locate("cp-preln-laptop-s0", store=store)     a training in the cache, by its key and step

A run is found first, then what is on this disk, then the hub. The commit to which a branch or tag of the hub leads is
asked for once, and kept in the cache of the hub, which `offline` reads alone.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from reproduce.checkpoints.files import CONFIG, identifying_files, read_config, refuse_config, weight_files
from reproduce.data import commits
from reproduce.data.hub import may_not_download, reaching
from reproduce.errors import OfeError
from reproduce.job_config import CheckpointParent, RunParent
from reproduce.store.atomic import file_hash
from reproduce.store.home import stated
from reproduce.store.runs import RunFolder, Store

Located = CheckpointParent | RunParent

HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
"""Files of a repository that are downloaded: weights in safetensors, configuration and tokenizer."""
PICKLED_HUB_FILES = ["pytorch_model*.bin"]


def locate(
    model: str,
    *,
    store: Store | None = None,
    revision: str | None = None,
    step: int | None = None,
    gguf: str | None = None,
    offline: bool = False,
    allow_pickle: bool = False,
) -> Located:
    """The model that a user calls `model`, with its identity.

    Args:
        store: where runs are looked up; None leaves them out.
        revision: branch, tag or commit of a repository on the hub.
        step: number of optimiser steps of a run; by default its last one.
        gguf: name of a GGUF file in the folder or repository `model`.
        allow_pickle: whether weights may be in PyTorch's older format, a Python pickle.

    Raises:
        OfeError: there is no such model, it cannot be measured, or an option has no meaning for it (exit code 2, or 1
            if the hub cannot be reached).
    """
    runs = [] if store is None else [one for one in store.list() if model in (one.key, one.slug, one.path.name)]
    if runs:
        _no_option(model, "a run", **{"--revision": revision, "--gguf": gguf})
        return _run(model, runs, step)
    _no_option(model, "no run", **{"--step": step})
    path = stated(model)
    if os.path.exists(path):
        _no_option(model, "on this disk", **{"--revision": revision})
        return _local(path, gguf, allow_pickle=allow_pickle)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise OfeError(
            f"there is no model {model}: no run, no folder, no file, and no name on the Hugging Face hub",
            hint="`ofe status` lists the runs, and names on the hub are owner/name",
            exit_code=2,
        )
    parent = CheckpointParent(form="hub", name=model, revision=revision, file=gguf, step=step_of(revision))
    return parent.model_copy(update={"fingerprint": commit_of(parent, offline=offline)})


def step_of(revision: str | None) -> int | None:
    """The training step that a revision is named after, as `step1000` is of Pythia; None if it is named otherwise."""
    found = re.fullmatch(r"(?:global_?)?step[-_]?(\d+)", revision or "", re.IGNORECASE)
    return int(found[1]) if found else None


def _no_option(model: str, what: str, **given: object) -> None:
    for option, value in given.items():
        if value is not None:
            raise OfeError(f"{option} has no meaning for {model}, which is {what}", hint="leave it out", exit_code=2)


def _run(model: str, runs: list[RunFolder], step: int | None) -> RunParent:
    trainings = [one for one in runs if one.read_run_yaml().get("kind", "train") == "train"]
    if len({one.key for one in trainings}) != 1:
        what = f"stands for {len(trainings)} trainings" if trainings else "is a measurement, not a training"
        raise OfeError(f"{model} {what}", hint="name a training by its key (`ofe status --json`)", exit_code=2)
    (first, *_) = trainings
    last = first.training().last_step
    if step is not None and step > last:
        raise OfeError(f"{model} ends at step {last}, before step {step}", hint=f"give a step from 0 to {last}",
                       exit_code=2)  # fmt: skip
    return RunParent(key=first.key, step=last if step is None else step)


def _local(path: Path, gguf: str | None, *, allow_pickle: bool) -> CheckpointParent:
    if path.is_dir() and gguf is None:
        files = sorted(path.glob("*.gguf"))
        if not (path / "config.json").exists() and len(files) == 1:
            gguf = files[0].name
    if path.is_dir() and gguf is not None:
        path = path / gguf
        if not path.is_file():
            raise OfeError(f"{path} is not there", hint="name a .gguf file of that folder", exit_code=2)
    if path.is_file():
        if path.suffix != ".gguf":
            raise OfeError(f"{path} is a file that is no checkpoint", hint="name its folder, or a .gguf file",
                           exit_code=2)  # fmt: skip
        return CheckpointParent(form="gguf", name=path.name, path=str(path), fingerprint=file_hash(path)[:16])
    refuse_config(path.name, read_config(path))
    weight_files(path, allow_pickle=allow_pickle)
    return CheckpointParent(form="folder", name=path.name, path=str(path), fingerprint=folder_hash(path))


def folder_hash(folder: Path) -> str:
    """16 hexadecimal digits that identify the weights, the architecture and the tokenizer in `folder`, wherever it is.

    A gigabyte takes about a second.
    """
    digests = [f"{file_hash(path)}  {path.name}\n" for path in identifying_files(folder)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def identity_of(parent: CheckpointParent) -> str:
    """The fingerprint that the checkpoint has now, read from its files or asked of the hub.

    Raises:
        OfeError: it is not there, or cannot be reached.
    """
    if parent.form == "hub":
        return commit_of(parent, offline=False)
    path = Path(str(parent.path))
    if not path.exists():
        raise OfeError(f"{path} is not there any more", hint=f"put {parent.name} back, or name another checkpoint")
    return file_hash(path)[:16] if parent.form == "gguf" else folder_hash(path)


def commit_of(parent: CheckpointParent, *, offline: bool) -> str:
    """The commit to which the revision of a repository on the hub leads.

    Its config.json is fetched on the way, or the GGUF file. The hub's cache then knows the commit without the network.

    Raises:
        OfeError: there is no such repository or revision, it is not in the hub's cache and may not be asked for, or it
            cannot be measured.
    """
    folder = commits.commit_of(
        parent.name, parent.fingerprint or parent.revision, file=parent.file or CONFIG, offline=offline
    )
    if parent.file is None:
        refuse_config(parent.name, read_config(folder))
    return folder.name


def snapshot(parent: CheckpointParent, *, offline: bool, allow_pickle: bool = False) -> Path:
    """The folder or file on this disk with the checkpoint, which is downloaded first if it lies on the hub.

    Raises:
        OfeError: it is not there, cannot be reached, or holds another checkpoint than that of the fingerprint.
    """
    if parent.form != "hub":
        assert parent.path is not None
        found = identity_of(parent)
        if parent.fingerprint not in ("", found):
            raise OfeError(
                f"{parent.path} has changed: it holds another checkpoint ({found}, not {parent.fingerprint})",
                hint="measure it anew with `ofe measure`",
            )
        return Path(parent.path)
    from huggingface_hub import snapshot_download

    local = may_not_download(offline)

    def fetched(patterns: list[str]) -> Path:
        revision = parent.fingerprint or parent.revision
        with reaching(parent.name, "", local, other=commits.OTHER_COPY) as alone:
            return Path(
                snapshot_download(parent.name, revision=revision, allow_patterns=patterns, local_files_only=alone)
            )

    folder = fetched([parent.file] if parent.file else HUB_FILES)
    if allow_pickle and not parent.file and not any(folder.glob("*.safetensors")):
        folder = fetched(HUB_FILES + PICKLED_HUB_FILES)
    return folder / parent.file if parent.file else folder
