"""Runs as jobs of a cluster: what is asked for, the order of submission, and what a job does when it is stopped."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reproduce.errors import OfeError
from reproduce.job_config import MeasureConfig, RunParent
from reproduce.jobs import cluster
from reproduce.jobs.batch import Entry, Request, Site, request_for, script, variables
from reproduce.specs.runs import ResolvedRun
from reproduce.store.layout import CHECKED_FILES
from reproduce.store.runs import RunFolder
from tests.runs import create, tiny_run, worker, write_text_folder

submitit = pytest.importorskip("submitit")
REQUEST = Request(minutes=30, memory_gb=4, cores=2)


class Recorder:
    """An executor that only notes what it is told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.functions: list[cluster.RunJob] = []

    def update_parameters(self, **parameters: Any) -> None:
        self.told.append(parameters)

    def submit(self, fn: Callable[..., Any], /) -> Any:
        assert isinstance(fn, cluster.RunJob)
        self.functions.append(fn)
        return SimpleNamespace(job_id=str(100 + len(self.functions)))


@pytest.fixture
def run(tmp_path: Path) -> ResolvedRun:
    return tiny_run(write_text_folder(tmp_path / "text", 20_000))


def entry(home: Path, run: ResolvedRun, request: Request = REQUEST) -> Entry:
    return Entry(run, create(home, run).path, request)


def measured(run: ResolvedRun) -> ResolvedRun:
    config = MeasureConfig(parent=RunParent(key=run.key, step=3), examples=2)
    return ResolvedRun("seen", "Seen", run.setting, "smoke", 0, config, paper_data=False, parent=run)


def test_a_job_asks_for_more_than_the_plan_expects() -> None:
    asked = request_for(7200, 3 * 10**9, threads=4, devices=2, gpu=True)
    assert asked == Request(minutes=180, memory_gb=5, cores=8, gpus=2)
    assert request_for(1, 10**8, threads=1, devices=1, gpu=False) == Request(minutes=20, memory_gb=2, cores=1)


def test_parents_are_submitted_first_and_waited_for(run: ResolvedRun, tmp_path: Path) -> None:
    home, executor = tmp_path / "home", Recorder()
    entries = [entry(home, measured(run)), entry(home, run)]
    site = Site(partition="gpu", gres="gpu:a100:1", minutes=90)
    jobs = cluster.submit(entries, executor, site, devices=1, variables={})
    assert list(jobs) == [run.key, entries[0].run.key]
    parent, child = executor.told
    assert "dependency" not in parent
    assert child["dependency"] == "afterok:101"
    assert (parent["partition"], parent["gres"], parent["time"]) == ("gpu", "gpu:a100:1", 90)
    assert "gpus_per_node" not in parent
    assert cluster.submitted(entries[1].folder) == {"cluster": "slurm", "job": "101"}


def test_what_is_submitted_is_the_path_of_a_folder(run: ResolvedRun, tmp_path: Path) -> None:
    executor = Recorder()
    cluster.submit([entry(tmp_path, run)], executor, Site(), devices=1, variables={"OFE_HOME": "there"})
    pickled = pickle.dumps(executor.functions[0])
    assert len(pickled) < 2000
    assert b"torch" not in pickled.replace(b"torch.distributed.run", b"")


def test_slurm_s_own_executor_takes_the_parameters(run: ResolvedRun, tmp_path: Path) -> None:
    from submitit.slurm.slurm import _make_sbatch_string

    told = cluster.slurm_parameters(entry(tmp_path, run), Site(partition="p", gres="gpu:1"), ["7", "8"])
    text = _make_sbatch_string(command="true", folder=tmp_path, **told)
    for line in ("--partition=p", "--gres=gpu:1", "--dependency=afterok:7:8", "--requeue", "--time=30", "--mem=4GB"):
        assert f"#SBATCH {line}\n" in text


def test_without_slurm_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OfeError, match="neither sbatch nor srun") as caught:
        cluster.slurm_executor(tmp_path)
    assert "--sbatch" in str(caught.value.hint)


@pytest.mark.parametrize(("answer", "queued"), [("PENDING", True), ("", False), ("COMPLETED", False)])
def test_a_job_that_the_cluster_has_lost_is_submitted_again(
    run: ResolvedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, queued: bool
) -> None:
    program = tmp_path / "bin" / "squeue"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho {answer}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    one, executor = entry(tmp_path, run), Recorder()
    for _ in range(2):
        cluster.submit([one], executor, Site(), devices=1, variables={})
    assert len(executor.functions) == (1 if queued else 2)


# ---------------------------------------------------------------------------------------------------
# Scripts


def test_a_script_is_shell_and_creates_what_its_jobs_need(run: ResolvedRun, tmp_path: Path) -> None:
    """The script is run with stand-ins for `sbatch` and `ofe`, which do the jobs at once."""
    home, tools = tmp_path / "a home", tmp_path / "bin"
    tools.mkdir()
    for name, text in {
        "sbatch": '#!/bin/sh\necho "$@" >> "$LOG"\ncat > "$LOG.job"; [ -n "$(cat "$LOG.job")" ] && echo 17\n',
        "ofe": '#!/bin/sh\necho "ofe $*" >> "$LOG"\n',
    }.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    entries = [Entry(one, home / "runs" / f"{one.slug}-{one.key}", REQUEST) for one in (run, measured(run))]
    text = script(entries, Site(partition="p"), home=home, devices=1, threads=2, data="ofe data prepare fig2")
    path = tmp_path / "submit.sh"
    path.write_text(text)
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "LOG": str(tmp_path / "log")}
    done = subprocess.run(["bash", path], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{run.slug}: job 17", f"{entries[1].run.slug}: job 17"]
    log = (tmp_path / "log").read_text().splitlines()
    assert log[0] == "ofe data prepare fig2"
    assert "--partition=p" in log[1]
    assert "--dependency=afterok:17" in log[2]
    for one in entries:
        assert RunFolder(one.folder).config() == one.run.config


# ---------------------------------------------------------------------------------------------------
# Jobs that run, by the executor of submitit that uses processes of this machine


def local(folder: Path) -> Any:
    executor = submitit.LocalExecutor(folder)
    executor.update_parameters(timeout_min=10)
    return executor


def no_parameters(one: Entry, site: Site, parents: Sequence[str]) -> dict[str, Any]:
    return {}


def wait(condition: Callable[[], object], limit_s: float = 200) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it never came to this"
        time.sleep(0.05)


def begun(folder: RunFolder) -> bool:
    return ((folder.progress() or {}).get("step") or 0) > 2


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[ResolvedRun, RunFolder]:
    """A run whose steps take some seconds, and its folder after it was trained without a stop.

    A signal has to reach it in the middle, and its progress is written twice a second only.
    """
    long = tiny_run(write_text_folder(tmp_path_factory.mktemp("text"), 20_000), "steps=300")
    home = tmp_path_factory.mktemp("straight")
    folder = create(home, long)
    assert worker(folder, home).wait(300) == 0
    return long, folder


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [[signal.SIGTERM, signal.SIGUSR2], [signal.SIGTERM]])
def test_a_stopped_job_goes_on(
    straight: tuple[ResolvedRun, RunFolder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    numbers: list[signal.Signals],
) -> None:
    """A preemption, and a job that was cancelled and is submitted again: the same trace both times."""
    home, (long, undisturbed) = tmp_path / "home", straight
    shutil.copytree(undisturbed.path.parent.parent / "data", home / "data")
    monkeypatch.setenv("OFE_DEVICE", "cpu")
    one, folder = entry(home, long), create(home, long)
    told = variables(1)

    def submit() -> Any:
        jobs = cluster.submit(
            [one],
            local(tmp_path / "logs"),
            Site(),
            devices=1,
            variables=told,
            parameters=no_parameters,
            cluster="local",
        )
        return jobs[long.key]

    job = submit()
    wait(lambda: begun(folder))
    progress = folder.progress() or {}
    for number in numbers:
        os.kill(progress["launcher"], number)  # the process of the job, which has started the worker
    if signal.SIGUSR2 not in numbers:
        wait(job.done)
        assert folder.state == "resumable"
        job = submit()
    wait(job.done)
    assert job.result() == "sealed"
    assert {name: (folder.path / name).read_bytes() for name in CHECKED_FILES} == {
        name: (undisturbed.path / name).read_bytes() for name in CHECKED_FILES
    }


@pytest.mark.slow
def test_a_run_that_fails_fails_its_job_with_its_own_words(tmp_path: Path, run: ResolvedRun) -> None:
    one = entry(tmp_path / "home", run)
    (one.folder / "checkpoint.pt").write_bytes(b"no checkpoint")
    function = cluster.run_job(one, devices=1, variables=variables(1))
    with pytest.raises(RuntimeError, match=r"checkpoint\.pt cannot be read"):
        submitit.DebugExecutor(tmp_path / "logs").submit(function).submission().result()
