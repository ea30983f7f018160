"""Workers under torchrun, as `ofe reproduce --devices 2` starts them: stopped, continued, sealed, and in error."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from reproduce.job_config import MeasureConfig, RunParent
from reproduce.jobs.executor import LocalProcesses, worker_command
from reproduce.jobs.queue import Job, execute
from reproduce.specs.runs import ResolvedRun
from reproduce.store.layout import checkpoints
from reproduce.store.runs import Store
from tests.runs import create, tiny_run, write_text_folder


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OFE_DEVICE", "cpu")
    return write_text_folder(tmp_path / "text", 20_000)


@pytest.mark.slow
def test_a_run_on_two_devices_is_stopped_and_continued(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFE_PARALLEL", "fsdp")
    run, store, signals = tiny_run(text, "steps=200", "probe.every=200", "eval.every=200"), Store(tmp_path / "home"), 1

    def interrupt(jobs: Sequence[Job]) -> None:
        nonlocal signals
        if signals and jobs[0].progress.get("step", 0) > 0:
            signals -= 1
            os.kill(os.getpid(), signal.SIGINT)

    two = LocalProcesses(1, devices=2)
    (job,) = execute([run], store, two, keep={run.key: [0, 200]}, watch=interrupt)
    assert (job.state, job.error) == ("interrupted", None)
    assert job.folder.state == "resumable"
    assert [path.is_dir() for path in checkpoints(job.folder.path)] == [True]

    (job,) = execute([run], store, two)
    assert (job.state, job.error) == ("sealed", None)
    job.folder.verify()
    assert not checkpoints(job.folder.path)
    provenance = job.folder.provenance()
    assert (provenance["devices"], provenance["parallel"], provenance["micro_batch"]) == (2, "fsdp", None)
    assert 0 < provenance["trained_steps"] < 200
    trace = job.folder.read_trace()
    assert trace.query("split == 'train' and metric == 'loss'").step.tolist() == list(range(200))

    # The weights were put together from both devices; one and two processes measure the same of them.
    assert job.folder.weights() == [0, 200]
    for step, executor in ((0, LocalProcesses(1)), (200, two)):
        config = MeasureConfig(parent=RunParent(key=run.key, step=step), examples=run.training.probe.batch_size)
        child = ResolvedRun("seen", "Seen", run.setting, run.scale, run.seed, config, paper_data=False, parent=run)
        (measured,) = execute([child], store, executor)
        assert (measured.state, measured.error) == ("sealed", None)
        columns = ["split", "metric", "layer"]
        ours = measured.folder.read_trace().set_index(columns).value.drop("eq5_residual", level="metric")
        there = trace[(trace.split == "probe") & (trace.step == step)].set_index(columns).value[ours.index]
        assert len(ours) > 30
        assert ours.to_numpy() == pytest.approx(there.to_numpy(), rel=1e-4, abs=1e-6)


@pytest.mark.slow
def test_an_error_is_told_once(text: Path, tmp_path: Path) -> None:
    folder = create(tmp_path / "home", tiny_run(text, "batch_size=3"))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OFE_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        worker_command(folder.path, 2), env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    message = "a batch of 3 examples cannot be divided among 2 devices"
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith(("error: ", "hint: "))] == [
        f"error: {message}",
        "hint: use a number of devices that divides it",
    ]
    assert folder.status() == ("failed", message)
