"""Kill it whenever you like: whatever stops a run, the sealed trace is that of an uninterrupted one, byte for byte."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from reproduce.store.layout import CHECKPOINT
from tests.drills.amount import FACTOR
from tests.runs import create, tiny_run, worker, write_text_folder
from tests.training.kills import LIMIT_S, check_kills, checked_bytes, finish, lines, wait_for

STEPS = 150 if FACTOR == 1 else 700
"""Of a run that is stopped in the middle. It must not be over where the test waits for the processor a while."""
LONGER = (f"steps={STEPS}", "probe.every=7", "eval.every=20")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_folder(tmp_path_factory.mktemp("text"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("cp-presrms", ()),
        ("cp-op", ("optimizer.name=soap", "optimizer.max_precond_dim=128", "probe.moment_updates_layer=2")),
    ],
)
def test_a_killed_run_ends_in_the_same_bytes(text: Path, tmp_path: Path, name: str, changes: tuple[str, ...]) -> None:
    check_kills(tiny_run(text, *LONGER, *changes, name=name), tmp_path)


@pytest.mark.slow
def test_a_run_goes_on_with_as_many_threads_as_it_began_with(text: Path, tmp_path: Path) -> None:
    folder = create(tmp_path, tiny_run(text, *LONGER))
    process = worker(folder, tmp_path, OFE_CHECKPOINT_S="0")
    wait_for((folder.path / CHECKPOINT).exists, process)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert folder.state == "resumable"
    process = worker(folder, tmp_path, OMP_NUM_THREADS="2")
    assert process.communicate() == ("", "")
    assert folder.provenance()["threads"] == 1


@pytest.mark.slow
def test_a_kill_while_a_checkpoint_is_written_keeps_the_one_before(text: Path, tmp_path: Path) -> None:
    run = tiny_run(text, *LONGER)
    straight = create(tmp_path / "straight", run)
    finish(straight, tmp_path / "straight")

    home = tmp_path / "killed"
    folder = create(home, run)
    process = worker(folder, home, OFE_CHECKPOINT_S="0")

    def writing() -> bool:
        whole = (folder.path / CHECKPOINT).exists()
        return whole and any(path.name != CHECKPOINT and CHECKPOINT in path.name for path in folder.path.iterdir())

    wait_for(writing, process)
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (folder.path / CHECKPOINT).exists()
    assert folder.state == "resumable"
    finish(folder, home)
    assert checked_bytes(folder) == checked_bytes(straight)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP][: 2 * FACTOR])
def test_a_polite_signal_saves_at_the_next_step(text: Path, tmp_path: Path, number: signal.Signals) -> None:
    run = tiny_run(text, *LONGER)
    folder = create(tmp_path / "home", run)
    process = worker(folder, tmp_path / "home", OFE_CHECKPOINT_S="3600")
    wait_for(lambda: lines(folder) > 8, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 75, errors
    assert folder.state == "resumable"
    progress = folder.progress()
    assert progress is not None
    assert progress["state"] == "interrupted"
    finish(folder, tmp_path / "home")


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_nothing_is_removed(text: Path, tmp_path: Path) -> None:
    run = tiny_run(text)
    folder = create(tmp_path / "home", run)
    (folder.path / CHECKPOINT).write_bytes(b"not a checkpoint")
    process = worker(folder, tmp_path / "home")
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert CHECKPOINT in errors
    assert "hint:" in errors
    assert "Traceback" not in errors
    assert folder.state == "failed"
    assert (folder.path / CHECKPOINT).exists()


@pytest.mark.slow
def test_two_workers_do_not_train_the_same_run(text: Path, tmp_path: Path) -> None:
    folder = create(tmp_path / "home", tiny_run(text, "steps=4000"))
    first = worker(folder, tmp_path / "home")
    wait_for(lambda: lines(folder) > 2, first)
    second = worker(folder, tmp_path / "home")
    _, errors = second.communicate(timeout=LIMIT_S)
    progress = folder.progress()
    assert progress is not None
    assert progress["state"] == "running"
    first.kill()
    first.communicate()
    assert second.returncode == 1
    assert "another process is training this run" in errors
