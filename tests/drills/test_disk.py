"""Power cuts, full disks and quotas at any write of a run: it goes on, ends in the same bytes, and leaves no debris."""

from __future__ import annotations

import errno
import random
import shutil
from pathlib import Path

import pytest

from reproduce.errors import OfeError
from reproduce.jobs.worker import do
from reproduce.store.layout import CHECKPOINT, LIVE_TRACE
from reproduce.store.runs import RunFolder
from tests.drills.amount import often
from tests.drills.disk import power_cut, refusing
from tests.runs import create, tiny_run, write_text_folder
from tests.training.kills import checked_bytes


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """An uninterrupted run, sealed. Its home has the prepared text."""
    home = tmp_path_factory.mktemp("straight") / "home"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _variables(home).items():
            patch.setenv(name, value)
        run = tiny_run(write_text_folder(tmp_path_factory.mktemp("text"), 20_000), "steps=12")
        folder = create(home, run)
        assert do(folder, lambda: False) == 0
    return folder


@pytest.fixture
def folder(straight: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """The same run, not begun, in a home of its own."""
    home = tmp_path / "home"
    shutil.copytree(straight.path.parent.parent / "data", home / "data")
    again = RunFolder(home / "runs" / straight.path.name)
    again.path.mkdir(parents=True)
    shutil.copy(straight.path / "run.yaml", again.path)
    for name, value in _variables(home).items():
        monkeypatch.setenv(name, value)
    return again


def _variables(home: Path) -> dict[str, str]:
    return {"OFE_HOME": str(home), "OFE_DEVICE": "cpu", "OMP_NUM_THREADS": "1", "OFE_CHECKPOINT_S": "0"}


def go_on(folder: RunFolder) -> int:
    return do(folder, lambda: False)


def debris(folder: RunFolder) -> list[str]:
    return [path.name for path in folder.path.iterdir() if path.name.endswith(".tmp")]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(often(3)))
def test_power_cuts_lose_nothing_that_counts(
    straight: RunFolder, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Four cuts, each at some sync: mid-checkpoint, mid-trace or mid-seal."""
    chance = random.Random(seed)
    for _ in range(4):
        with power_cut(folder.path, chance.randrange(1, 45), monkeypatch):
            go_on(folder)
    assert go_on(folder) == 0
    assert checked_bytes(folder) == checked_bytes(straight)
    assert debris(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_stops_the_run_and_it_goes_on(
    straight: RunFolder, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    chance = random.Random(number)
    stops = 0
    for _ in range(often(8)):
        if folder.sealed:
            break
        with refusing(number, chance.randrange(25), monkeypatch) as failed:
            refused: list[OfeError] = []
            try:
                go_on(folder)
            except OfeError as error:
                refused.append(error)
        for one in refused:
            assert one.hint
            assert number not in (errno.ENOSPC, errno.EDQUOT) or "are free on its disk" in one.message
        stops += len(refused)
        assert failed() or folder.sealed
        assert debris(folder) == []
    assert stops >= 3
    assert go_on(folder) == 0
    assert checked_bytes(folder) == checked_bytes(straight)


@pytest.mark.slow
def test_a_folder_that_is_removed_underneath_ends_the_run_in_words(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> bool:
        shutil.rmtree(folder.path)
        return True

    with pytest.raises(OfeError, match="is gone") as caught:
        do(folder, stop)
    assert caught.value.hint


@pytest.mark.slow
def test_every_flipped_bit_of_a_checkpoint_is_found(
    straight: RunFolder, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch reads a checkpoint with changed weights without a word, and the run would go on with them."""
    calls = iter([False] * 5 + [True])
    assert do(folder, lambda: next(calls)) == 75
    path = folder.path / CHECKPOINT
    whole, trace = path.read_bytes(), (folder.path / LIVE_TRACE).read_bytes()
    chance = random.Random(0)
    for _ in range(often(10)):
        content = bytearray(whole)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        with pytest.raises(OfeError, match=r"checkpoint\.pt cannot be read") as caught:
            go_on(folder)
        assert f"rm -r {path}" in str(caught.value.hint)
        assert (folder.path / LIVE_TRACE).read_bytes() == trace
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(OfeError, match=r"checkpoint\.pt cannot be read"):
            go_on(folder)
    path.unlink()  # what the hint says
    assert go_on(folder) == 0
    assert checked_bytes(folder) == checked_bytes(straight)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run.yaml", "trace.parquet", "moments.parquet", "provenance.json", "SHA256SUMS"])
def test_every_change_of_a_sealed_run_is_found(straight: RunFolder, tmp_path: Path, name: str) -> None:
    copy = RunFolder(Path(shutil.copytree(straight.path, tmp_path / straight.path.name)))
    copy.verify()
    whole = (copy.path / name).read_bytes()
    chance = random.Random(name)
    for _ in range(often(20)):
        content = bytearray(whole)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        (copy.path / name).write_bytes(content)
        with pytest.raises(OfeError):
            copy.verify()
    for cut in (0, len(whole) // 2, len(whole) - 2):
        (copy.path / name).write_bytes(whole[:cut])
        with pytest.raises(OfeError):
            copy.verify()
