"""The models that `ofe measure`, `ofe quantise` and `ofe export` take, and how the jobs on them are done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from reproduce.cli.console import Ui
from reproduce.errors import OfeError
from reproduce.units import count

if TYPE_CHECKING:
    from reproduce.job_config import TextSample
    from reproduce.specs.runs import ResolvedRun
    from reproduce.store.runs import RunFolder


def text_sample(text: Path | None, dataset: str | None, ids: Path | None) -> TextSample | None:
    """The text that the user asks for, or None for the default one."""
    from reproduce.data.text.sample import identified
    from reproduce.job_config import TextSample

    if sum(one is not None for one in (text, dataset, ids)) > 1:
        raise OfeError("--text, --dataset and --text-ids each name a text", hint="give one of them", exit_code=2)
    if text is not None:
        source = "folder" if text.is_dir() else "file"
        return identified(TextSample(source=source, path=str(text.absolute())))
    if ids is not None:
        return identified(TextSample(source="ids", path=str(ids.absolute())))
    if dataset is not None:
        where = {"source": "hub", "dataset": dataset} if "/" in dataset else {"source": dataset}
        return identified(TextSample.model_validate(where))
    return None


def say_how(offline: bool, device: str | None, batch: int | None) -> None:
    """Say in the environment how the worker is to work: none of it changes a number."""
    from reproduce.data.hub import go_offline

    if offline:
        go_offline()
    if device is not None:
        os.environ["OFE_DEVICE"] = device
    if batch is not None:
        os.environ["OFE_MICRO_BATCH"] = str(batch)


def named_models(
    model: str,
    revisions: Sequence[str] | None,
    gguf: str | None,
    steps: Sequence[int] | None,
    offline: bool,
    allow_pickle: bool,
) -> tuple[list[tuple[Any, Any]], bool]:
    """What `model` names, once for each revision or step, with its training if it is a run, and whether it is none."""
    from reproduce.checkpoints.identity import locate
    from reproduce.cli.cache import the_one
    from reproduce.cli.selection import how_to_train, store
    from reproduce.job_config import RunParent

    names = {name for folder in store().list() for name in (folder.key, folder.slug, folder.path.name)}
    if model in names:
        for option, given in (("--revision", revisions), ("--gguf", gguf)):
            if given:
                raise OfeError(f"{option} has no meaning for {model}, which is a run", hint="leave it out", exit_code=2)
        training = trained_run(the_one(model))
        wanted = sorted(set(steps or [training.last_step]))
        return [(RunParent(key=training.key, step=step), training) for step in wanted], False
    if not os.path.exists(model) and (hint := how_to_train(model)):
        raise OfeError(f"the run {model} has not been trained here", hint=hint, exit_code=2)
    if steps:
        raise OfeError(f"--step has no meaning for {model}, which is no run", hint="leave it out", exit_code=2)
    wanted_revisions: list[str | None] = list(dict.fromkeys(revisions)) if revisions else [None]
    located = [
        locate(model, revision=revision, gguf=gguf, offline=offline, allow_pickle=allow_pickle)
        for revision in wanted_revisions
    ]
    return [(one, None) for one in located], True


def trained_run(folder: RunFolder) -> ResolvedRun:
    """The training in `folder`, as its run.yaml describes it.

    Raises:
        OfeError: the folder holds another kind of job, or its run.yaml is damaged.
    """
    from reproduce.specs.runs import ResolvedRun
    from reproduce.store.run_yaml import on_paper_data

    said, config = folder.read_run_yaml(), folder.training()
    own = on_paper_data(said, config.data.source)
    return ResolvedRun(said["name"], said["label"], said["setting"], said["scale"], said["seed"], config, own)


def check_step(parent: ResolvedRun, step: int) -> None:
    """Refuse a step that `parent` does not reach.

    Raises:
        OfeError: it ends before that step (exit code 2).
    """
    last = parent.last_step
    if step > last:
        raise OfeError(
            f"{parent.slug} ends at step {last}, before step {step}", hint=f"give a step from 0 to {last}", exit_code=2
        )


def do_missing(ui: Ui, jobs: Sequence[ResolvedRun], *, offline: bool) -> None:
    """Do the measurements that are not in the store. If a run lacks its weights, it is trained again before.

    Raises:
        OfeError: a job failed.
        typer.Exit: the user stopped the jobs.
    """
    from reproduce.cli.preparing import prepare_for
    from reproduce.cli.selection import store

    missing = list({job.key: job for job in jobs if not store().folder(job).complete}.values())
    if not missing:
        return
    prepare_for(ui, missing, offline=offline)
    trainings = []
    for training in {job.parent.key: job.parent for job in missing if job.parent is not None}.values():
        needed = sorted({job.config.last_step for job in missing if job.parent == training})
        if lacks_weights(ui, training, needed):
            trainings.append(training)
    finish(ui, [*trainings, *missing])


def lacks_weights(ui: Ui, training: ResolvedRun, steps: Sequence[int]) -> bool:
    """Ask a training for its weights after `steps`. It is to be trained once more if it has not kept them."""
    from reproduce.cli.selection import store

    folder = store().create(training, steps)  # may make a sealed run incomplete
    if folder.complete:
        return False
    said = ", ".join(map(str, steps))
    ui.tell(f"{training.slug} has not kept its weights of step {said}: it is trained to keep them")
    return True


def free_threads(ui: Ui, threads: int, jobs: int) -> int:
    """`threads`, or as many for each of `jobs` runs as there are cores without other work; at least 1.

    Threads of one run wait for one another. Where one of them shares its core with another process, all are slow.
    """
    from reproduce.machine import idle_cores, this_machine

    if threads == 1:
        return 1
    cores, idle = this_machine().cores, idle_cores(this_machine())
    free = max(1, min(threads, idle // jobs))
    if free < threads:
        ui.tell(f"{idle} of {cores} cores have no other work: a run that begins gets {count(free, 'thread')}")
    return free


def finish(ui: Ui, jobs: Sequence[ResolvedRun]) -> None:
    """Do `jobs` one after the other.

    Raises:
        OfeError: a job failed.
        typer.Exit: the user stopped the jobs.
    """
    from reproduce.cli.progress import watching
    from reproduce.cli.selection import store
    from reproduce.jobs.executor import LocalProcesses
    from reproduce.jobs.queue import execute, stopped_code
    from reproduce.machine import this_machine

    threads = free_threads(ui, this_machine().cores, 1)
    with watching(ui) as watch:
        done = execute(jobs, store(), LocalProcesses(1, threads=threads), watch=watch)
    if (stopped := stopped_code(done)) is not None:
        ui.tell("stopped; the same command continues")
        raise typer.Exit(stopped)
    for job in done:
        if job.state == "failed":
            raise OfeError(f"{job.run.slug} failed: {job.error}", hint=job.hint)
