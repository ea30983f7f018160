"""Workers that succeed, fail, die, are stopped, or find their run taken: all of them small stand-ins."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import filelock
import pytest

from reproduce.config import RunConfig
from reproduce.errors import OfeError
from reproduce.job_config import MeasureConfig, RunParent
from reproduce.jobs.executor import LocalProcesses, worker_command
from reproduce.jobs.queue import Job, execute, stopped_code
from reproduce.specs.runs import ResolvedRun
from reproduce.store.runs import RunFolder, Store

SEAL = "(folder / 'SHA256SUMS').write_text('')"
HEAD = """
import os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
def report(text):  # whole or not at all, as a worker does
    (folder / 'aside').write_text(text)
    (folder / 'aside').rename(folder / 'progress.json')
"""
SAVE_WHEN_STOPPED = """
def stop(number, frame):
    (folder / 'saved').write_text(signal.Signals(number).name)
    sys.exit(75)
signal.signal(signal.SIGINT, stop)
report('{"state": "running", "step": 3, "steps": 9}')
time.sleep(60)
"""
REFUSE = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
report('{"state": "running", "step": 3, "steps": 9}')
time.sleep(60)
"""


@pytest.fixture
def runs() -> list[ResolvedRun]:
    """Three seeds of a run."""
    config = {
        "model": {"kind": "transformer", "layers": 1, "width": 8, "heads": 1},
        "data": {"kind": "text", "source": "python-stdlib", "seq_len": 16, "vocab_size": 300},
        "optimizer": {"lr": 1e-3},
        "steps": 9,
        "batch_size": 2,
        "probe": {"every": 5, "batch_size": 2},
        "eval": {"every": 5, "batches": 1},
    }
    parsed = [RunConfig.model_validate({**config, "seed": seed}) for seed in range(3)]
    return [ResolvedRun("toy", "Toy", "toy", "smoke", one.seed, one, paper_data=False) for one in parsed]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def worker(program: str) -> Callable[[Path], list[str]]:
    """A process that runs `program` with its run folder as `folder`."""
    return lambda folder: [sys.executable, "-c", HEAD + program, str(folder)]


def stop_when_all_run(wanted: int, signals: Sequence[int]) -> Callable[[Sequence[Job]], None]:
    """A watcher that sends this process signals, one a poll, once so many workers report a step."""
    left = list(signals)

    def watch(jobs: Sequence[Job]) -> None:
        if left and sum("step" in job.progress for job in jobs) >= wanted:
            os.kill(os.getpid(), left.pop(0))

    return watch


def test_the_worker_is_the_one_that_trains() -> None:
    assert worker_command(Path("there"))[1:] == ["-m", "reproduce.jobs.worker", "there"]


def test_a_run_on_several_devices_is_trained_by_as_many_processes() -> None:
    command = worker_command(Path("there"), 4)
    assert command[1:4] == ["-m", "torch.distributed.run", "--standalone"]
    assert command[5:] == ["--nproc-per-node=4", "-m", "reproduce.jobs.worker", "there"]


def test_all_runs_are_sealed_and_never_more_than_jobs_at_once(runs: list[ResolvedRun], store: Store) -> None:
    abreast: list[int] = []

    def watch(jobs: Sequence[Job]) -> None:
        abreast.append(sum(job.state == "running" for job in jobs))

    done = execute(runs, store, LocalProcesses(2, command=worker(SEAL)), watch=watch)
    assert [job.state for job in done] == 3 * ["sealed"]
    assert max(abreast) == 2
    assert all((job.folder.path / "run.yaml").exists() for job in done)


def test_a_failed_run_does_not_stop_the_others_and_keeps_its_error(runs: list[ResolvedRun], store: Store) -> None:
    program = f"if '-s1-' in folder.name: raise ValueError('seed 1 is bad luck')\n{SEAL}"
    done = execute(runs, store, LocalProcesses(1, command=worker(program)))
    assert [job.state for job in done] == ["sealed", "failed", "sealed"]
    assert done[1].error == "ValueError: seed 1 is bad luck"
    assert done[1].folder.status() == ("failed", "ValueError: seed 1 is bad luck")


def test_the_worker_s_own_words_go_before_its_output(runs: list[ResolvedRun], store: Store) -> None:
    says = '(folder / \'progress.json\').write_text(\'{"state": "failed", "error": "no text"}\'); sys.exit(1)'
    assert execute(runs[:1], store, LocalProcesses(1, command=worker(says)))[0].error == "no text"


def test_a_worker_that_was_asked_to_stop_is_not_failed_whatever_its_launcher_says(
    runs: list[ResolvedRun], store: Store
) -> None:
    says = "(folder / 'progress.json').write_text('{\"state\": \"interrupted\"}'); sys.exit(1)"
    (job,) = execute(runs[:1], store, LocalProcesses(1, command=worker(says)))
    assert (job.state, job.error) == ("interrupted", None)


def test_a_hint_is_not_taken_for_the_error(runs: list[ResolvedRun], store: Store) -> None:
    says = "print('error: no text\\n\\nhint: find some', file=sys.stderr); sys.exit(1)"
    assert execute(runs[:1], store, LocalProcesses(1, command=worker(says)))[0].error == "no text"


def test_a_killed_worker_is_told_and_its_run_can_go_on(runs: list[ResolvedRun], store: Store) -> None:
    program = "(folder / 'checkpoint.pt').touch(); os.kill(os.getpid(), signal.SIGKILL)"
    (job,) = execute(runs[:1], store, LocalProcesses(1, command=worker(program)))
    assert job.error == "its process was killed by SIGKILL, perhaps because the memory was full"
    assert job.folder.state == "resumable"


def test_a_worker_that_ends_well_without_a_seal_has_failed(runs: list[ResolvedRun], store: Store) -> None:
    assert (
        execute(runs[:1], store, LocalProcesses(1, command=worker("pass")))[0].error
        == "its process ended without sealing it"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_workers_save_and_starts_no_other(
    runs: list[ResolvedRun], store: Store, number: signal.Signals
) -> None:
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    watch = stop_when_all_run(2, [number])
    done = execute(runs, store, LocalProcesses(2, command=worker(SAVE_WHEN_STOPPED)), watch=watch)
    assert [job.state for job in done] == 3 * ["interrupted"]
    assert [(job.folder.path / "saved").exists() for job in done] == [True, True, False]
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_signal_kills_the_workers(runs: list[ResolvedRun], store: Store) -> None:
    watch = stop_when_all_run(1, [signal.SIGINT, signal.SIGINT])
    (job,) = execute(runs[:1], store, LocalProcesses(1, command=worker(REFUSE)), watch=watch)
    assert job.state == "interrupted"


def test_a_run_in_other_hands_is_waited_for_and_then_taken_over(runs: list[ResolvedRun], store: Store) -> None:
    held = filelock.FileLock(store.create(runs[0]).path / "lock")
    held.acquire()
    seen: list[tuple[str, ...]] = []

    def watch(jobs: Sequence[Job]) -> None:
        seen.append(tuple(job.state for job in jobs))
        if jobs[1].state == "sealed":
            held.release()

    done = execute(runs[:2], store, LocalProcesses(1, command=worker(SEAL)), watch=watch)
    assert seen[0] == ("elsewhere", "running")
    assert [job.state for job in done] == ["sealed", "sealed"]


def test_a_run_that_someone_else_seals_is_not_trained_again(runs: list[ResolvedRun], store: Store) -> None:
    held = filelock.FileLock(store.create(runs[0]).path / "lock")
    held.acquire()

    def watch(jobs: Sequence[Job]) -> None:
        (jobs[0].folder.path / "SHA256SUMS").write_text("")
        held.release()

    (job,) = execute(runs[:1], store, LocalProcesses(1, command=worker("sys.exit(1)")), watch=watch)
    assert job.state == "sealed"


def test_workers_get_their_threads_and_a_device_each(
    runs: list[ResolvedRun], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    program = "(folder / 'seen').write_text(os.environ['OMP_NUM_THREADS'] + ' ' + os.environ['CUDA_VISIBLE_DEVICES'])"
    done = execute(
        runs[:2], store, LocalProcesses(2, threads=3, gpus=2, command=worker(f"{program}; time.sleep(1); {SEAL}"))
    )
    assert [(job.folder.path / "seen").read_text() for job in done] == ["3 4", "3 7"]


def test_a_run_on_several_devices_gets_neighbouring_ones(
    runs: list[ResolvedRun], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7,8")
    program = "(folder / 'seen').write_text(os.environ['CUDA_VISIBLE_DEVICES'])"
    command = worker(f"{program}; time.sleep(1); {SEAL}")
    done = execute(runs[:2], store, LocalProcesses(2, gpus=5, devices=2, command=command))
    assert [(job.folder.path / "seen").read_text() for job in done] == ["4,5", "6,7"]


def test_a_signal_goes_to_the_process_that_speaks_for_the_others(runs: list[ResolvedRun], store: Store) -> None:
    """A stand-in for torchrun: it starts the worker, lets it say who started it, and ignores signals itself."""
    inner = HEAD + SAVE_WHEN_STOPPED.replace('"step": 3', '"launcher": %d, "pid": %d, "step": 3').replace(
        "9}')", "9}' % (os.getppid(), os.getpid()))"
    )
    program = f"""
import subprocess
signal.signal(signal.SIGINT, signal.SIG_IGN)
subprocess.run([sys.executable, "-c", {inner!r}, str(folder)])
sys.exit(1)
"""
    (job,) = execute(
        runs[:1], store, LocalProcesses(1, command=worker(program)), watch=stop_when_all_run(1, [signal.SIGINT])
    )
    assert job.state == "interrupted"
    assert (job.folder.path / "saved").read_text() == "SIGINT"


def measured(run: ResolvedRun, step: int) -> ResolvedRun:
    """The measurement of what `run` was after `step` steps."""
    config = MeasureConfig(parent=RunParent(key=run.key, step=step), examples=2)
    return ResolvedRun("seen", "Seen", "toy", "smoke", run.seed, config, paper_data=False, parent=run)


def test_a_run_waits_for_its_parent_though_it_is_named_first(runs: list[ResolvedRun], store: Store) -> None:
    child, seen = measured(runs[0], 9), list[tuple[str, ...]]()

    def watch(jobs: Sequence[Job]) -> None:
        seen.append(tuple(job.state for job in jobs))

    done = execute([child, runs[0]], store, LocalProcesses(2, command=worker(SEAL)), watch=watch)
    assert [job.state for job in done] == ["sealed", "sealed"]
    assert ("running", "running") not in seen
    assert seen[0] == ("waiting", "running")


def test_what_starts_from_a_failed_run_fails_with_it_and_nothing_else_does(
    runs: list[ResolvedRun], store: Store
) -> None:
    program = f"sys.exit(1) if '-s0-' in folder.name else None\n{SEAL}"
    done = execute([runs[0], measured(runs[0], 9), runs[1]], store, LocalProcesses(1, command=worker(program)))
    assert [job.state for job in done] == ["failed", "failed", "sealed"]
    assert done[1].error == "it starts from toy-smoke-s0, which failed"


def test_what_starts_from_a_run_that_was_stopped_from_outside_is_not_waited_for(
    runs: list[ResolvedRun], store: Store
) -> None:
    """As where a cluster, or `kill`, stops one worker: the queue itself gets no signal."""
    idle = 0

    def watch(jobs: Sequence[Job]) -> None:
        nonlocal idle
        idle = 0 if any(job.state == "running" for job in jobs) else idle + 1
        assert idle < 5, f"the queue never ends: {[job.state for job in jobs]}"

    program = f"if '-s0-' in folder.name and 'seen' not in folder.name: sys.exit(75)\n{SEAL}"
    chain = [measured(runs[0], 9), runs[0], runs[1]]
    done = execute(chain, store, LocalProcesses(1, command=worker(program)), watch=watch)
    assert [job.state for job in done] == ["interrupted", "interrupted", "sealed"]


def test_a_run_is_told_which_weights_to_keep_and_is_not_done_without_them(
    runs: list[ResolvedRun], store: Store
) -> None:
    (job,) = execute(runs[:1], store, LocalProcesses(1, command=worker(SEAL)), keep={runs[0].key: [3, 9]})
    assert json.loads((job.folder.path / "keep.json").read_text()) == {"steps": [3, 9]}
    assert (job.state, job.error) == ("failed", "its process ended without sealing it")
    (job,) = execute(runs[:1], store, LocalProcesses(1, command=worker("sys.exit(1)")))
    assert job.state == "failed", "an earlier wish stands"


def test_a_signal_that_was_ignored_at_the_start_stays_ignored(runs: list[ResolvedRun], store: Store) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        program = f"report('{{\"step\": 3}}'); time.sleep(1); {SEAL}"
        watch = stop_when_all_run(1, [signal.SIGHUP])
        (job,) = execute(runs[:1], store, LocalProcesses(1, command=worker(program)), watch=watch)
        assert job.state == "sealed"
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_hint_of_a_worker_is_kept(runs: list[ResolvedRun], store: Store) -> None:
    told = json.dumps({"state": "failed", "error": "no text", "hint": "write some"})
    program = f"report({told!r}); sys.exit(1)"
    (job,) = execute(runs[:1], store, LocalProcesses(1, command=worker(program)))
    assert (job.error, job.hint) == ("no text", "write some")
    progress = job.folder.progress()
    assert progress is not None
    assert (progress["error"], progress["hint"]) == ("no text", "write some")


def test_a_damaged_folder_ends_its_own_run_alone(runs: list[ResolvedRun], store: Store) -> None:
    (store.create(runs[0]).path / "SHA256SUMS").write_text("")
    (store.create(runs[0]).path / "weights.json").write_text("{")
    done = execute(runs[:2], store, LocalProcesses(1, command=worker(SEAL)))
    assert [job.state for job in done] == ["failed", "sealed"]
    assert "weights.json" in str(done[0].error)


def test_a_queue_that_cannot_note_a_failure_goes_on(
    runs: list[ResolvedRun], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: RunFolder, progress: object) -> None:
        raise OfeError("no space is left")

    monkeypatch.setattr(RunFolder, "write_progress", full)
    program = f"sys.exit(1) if '-s0-' in folder.name else None\n{SEAL}"
    done = execute(runs[:2], store, LocalProcesses(1, command=worker(program)))
    assert [job.state for job in done] == ["failed", "sealed"]


def test_processes_of_one_machine_need_no_host_name() -> None:
    assert "--local-addr=127.0.0.1" in worker_command(Path("there"), 2)
    assert LocalProcesses(1, devices=2).environment(0)["GLOO_SOCKET_IFNAME"] in ("lo", "lo0")
    assert "GLOO_SOCKET_IFNAME" not in LocalProcesses(1).environment(0)


def test_workers_heed_a_stop_though_the_queue_was_started_with_interrupts_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.runs import tiny_run, write_text_folder

    run = tiny_run(write_text_folder(tmp_path / "text", 20_000), "steps=4000", "probe.every=4000", "eval.every=4000")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        watch = stop_when_all_run(1, [signal.SIGTERM])
        (job,) = execute([run], Store(tmp_path / "home"), LocalProcesses(1), watch=watch)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (job.state, job.error) == ("interrupted", None)
    assert job.folder.state == "resumable"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_of_a_cluster_is_told_by_the_exit_code(
    runs: list[ResolvedRun], store: Store, number: signal.Signals
) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # whoever runs the tests may ignore it, as nohup does
    try:
        watch = stop_when_all_run(1, [number])
        done = execute(runs[:1], store, LocalProcesses(1, command=worker(SAVE_WHEN_STOPPED)), watch=watch)
    finally:
        signal.signal(number, before)
    assert stopped_code(done) == 75
    assert (done[0].folder.path / "saved").exists()


def test_what_was_ignored_at_the_start_stays_ignored(runs: list[ResolvedRun], store: Store) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        watch = stop_when_all_run(1, [signal.SIGHUP])
        seals = f"report('{{\"step\": 1}}'); time.sleep(1); {SEAL}"
        done = execute(runs[:1], store, LocalProcesses(1, command=worker(seals)), watch=watch)
        assert (done[0].state, stopped_code(done)) == ("sealed", None)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_signal_than_the_first_kills_no_worker(runs: list[ResolvedRun], store: Store) -> None:
    """A batch system warns with one signal and stops with the next, while the worker still saves."""
    slow = SAVE_WHEN_STOPPED.replace("(folder / 'saved')", "time.sleep(1.5); (folder / 'saved')")
    watch = stop_when_all_run(1, [signal.SIGUSR1, signal.SIGTERM])
    (job,) = execute(runs[:1], store, LocalProcesses(1, command=worker(slow)), watch=watch)
    assert (job.folder.path / "saved").exists()


def test_ctrl_c_has_the_exit_code_of_a_shell(runs: list[ResolvedRun], store: Store) -> None:
    watch = stop_when_all_run(1, [signal.SIGINT])
    done = execute(runs[:1], store, LocalProcesses(1, command=worker(SAVE_WHEN_STOPPED)), watch=watch)
    assert stopped_code(done) == 130


def test_a_folder_that_cannot_be_used_fails_its_own_job_alone(runs: list[ResolvedRun], store: Store) -> None:
    bad = store.create(runs[0]).path
    (bad / "keep.json").write_text("{")
    done = execute(runs[:2], store, LocalProcesses(1, command=worker(SEAL)), keep={runs[0].key: [9]})
    assert [job.state for job in done] == ["failed", "sealed"]
    assert "keep.json" in str(done[0].error)


def test_what_a_silent_worker_says_is_heard(runs: list[ResolvedRun], store: Store) -> None:
    heard: list[str] = []

    def watch(jobs: Sequence[Job]) -> None:
        heard.append(jobs[0].says)
        if jobs[0].says:
            (jobs[0].folder.path / "heard").touch()

    program = (
        "print('waiting for the other process', file=sys.stderr, flush=True)\n"
        "while not (folder / 'heard').exists(): time.sleep(0.05)\n" + SEAL
    )
    execute(runs[:1], store, LocalProcesses(1, command=worker(program)), watch=watch)
    assert "waiting for the other process" in heard


def test_threads_that_wait_sleep_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert LocalProcesses(1, threads=2).environment(0)["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert LocalProcesses(1, threads=2).environment(0)["OMP_WAIT_POLICY"] == "ACTIVE"
