"""Two processes against one: the same losses to rounding, the same metrics, and checkpoints that either continues."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from reproduce.errors import OfeError
from reproduce.metrics.table import STREAM_METRICS
from reproduce.store.layout import checkpoints
from reproduce.store.trace import read_live, read_moments
from reproduce.training.train import Execution
from tests.parallel.toys import CPU, SOAP, image_config, toy_config, toy_task, train

CLONE = Path(__file__).parents[2]
MODES = ("ddp", "fsdp")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Traces of a single process."""
    folder = tmp_path_factory.mktemp("one")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train(folder / "whole", toy_config())
    train(folder / "updates", toy_config(probe={"moment_updates_layer": 2}, precision="bf16"))
    train(folder / "bf16", toy_config(precision="bf16"))
    train(folder / "sgd", toy_config(optimizer={"name": "sgd"}))
    train(folder / "soap-ddp", toy_config(optimizer=SOAP))
    for images in (21, 17):
        train(folder / f"images-{images}", image_config(), images=images)
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left, some of it begun by one."""
    folder = tmp_path_factory.mktemp("two")
    for mode in MODES:
        train(folder / f"one-to-{mode}", toy_config(), stop_at=3)
    torch.save(toy_task(toy_config(), Execution(CPU)).model.state_dict(), folder / "initial.pt")
    command = [sys.executable, "-W", "error", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CLONE)}
    command = [*command, "-m", "tests.parallel.two", str(folder)]
    done = subprocess.run(command, env=environment, cwd=CLONE, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    # The gradient of a class token is a view of the tokens' where a process has one image; ddp copies it.
    warnings = [line for line in done.stderr.splitlines() if "Warning" in line and "Grad strides" not in line]
    assert not warnings
    return folder


@pytest.fixture
def found(two: Path) -> list[dict[str, Any]]:
    return [json.loads((two / f"found-{rank}.json").read_text()) for rank in (0, 1)]


def difference(ours: Path, theirs: Path) -> pd.Series:
    """Largest difference of each metric of two traces that have the same rows, relative to its largest value."""
    both = read_live(ours).merge(read_live(theirs), on=["step", "split", "metric", "layer"], suffixes=("", "_other"))
    assert len(both) == len(read_live(ours)) == len(read_live(theirs)) > 0
    assert (both.value.isna() == both.value_other.isna()).all()
    both["gap"] = (both.value - both.value_other).abs()
    grouped = both.groupby(["split", "metric"])
    return grouped.gap.max() / grouped.value.apply(lambda values: values.abs().max()).clip(lower=1e-3)


def test_what_processes_tell_each_other(found: list[dict[str, Any]]) -> None:
    for rank, said in enumerate(one["exchanges"] for one in found):
        assert said["total"] == [10, 12, 14]
        assert said["untouched"] == [10 * rank, 10 * rank + 1, 10 * rank + 2]
        assert said["added"] == 2.0
        assert said["concatenation"] == [0, 10, 11, 12]
        assert said["nothing"] == [0, 1]
        assert said["anyone"] == [True, False]
        assert said["from_chief"] == {"rank": 0}
        assert said["gathered"] == [{"rank": 0}, {"rank": 1}]
    first, second = (one["exchanges"]["first"] for one in found)
    assert sorted([first, second]) == [[False, False], [True, True]]


def test_what_cannot_be_divided_is_refused(found: list[dict[str, Any]]) -> None:
    assert found[0]["refusals"] == found[1]["refusals"]
    assert found[0]["refusals"] == {
        "soap": "soap needs whole matrices, which fsdp cuts into parts",
        "odd": "a batch of 5 examples cannot be divided among 2 devices",
    }


def test_a_sharded_model_begins_with_the_seed_s_own_weights(found: list[dict[str, Any]]) -> None:
    for one in found:
        assert one["initial"].pop("tied") == 1.0
        assert set(one["initial"].values()) == {0.0}


@pytest.mark.parametrize("run", [*MODES, *(f"{mode}-lean" for mode in MODES)])
def test_the_trace_is_that_of_one_process(one: Path, two: Path, run: str) -> None:
    assert difference(one / "whole", two / run).max() < 2e-5


def test_metrics_of_the_same_weights_are_the_same(one: Path, two: Path) -> None:
    for mode in MODES:
        ours, theirs = (read_live(folder)[lambda rows: rows.step == 0] for folder in (one / "whole", two / mode))
        columns = ["split", "metric", "layer"]
        ours, theirs = (rows[rows.split == "probe"].set_index(columns).value for rows in (ours, theirs))
        assert len(ours) == len(STREAM_METRICS) * 3 + 2
        # The residual of Eq (5) is rounding itself.
        assert (ours.isna() == theirs.isna()).all()
        gap = (ours - theirs).abs()[ours.index.get_level_values("metric") != "eq5_residual"]
        assert gap.max() < 1e-6
        mine, other = (
            {(moment.step, moment.layer): moment.second_moment for moment in read_moments(folder)}
            for folder in (one / "whole", two / mode)
        )
        assert list(mine) == list(other)
        at_first = [place for place in mine if place[0] == 0]
        assert at_first == [(0, "1"), (0, "2"), (0, "unembed")]
        for place in at_first:
            assert other[place] == pytest.approx(mine[place], rel=1e-5)


@pytest.mark.parametrize(("run", "images"), [("images-21", 21), ("images-17", 17), ("images-fsdp", 17)])
def test_images_too_where_an_epoch_ends_in_a_batch_that_cannot_be_halved(
    one: Path, two: Path, run: str, images: int
) -> None:
    assert difference(one / f"images-{images}", two / run).max() < 2e-5


def test_sgd_too(one: Path, two: Path) -> None:
    assert difference(one / "sgd", two / "sgd").max() < 1e-4


def test_soap_too_where_every_device_has_whole_matrices(one: Path, two: Path) -> None:
    """Rounding decides which eigenvectors of nearly equal eigenvalues are taken, as it does between micro-batches."""
    gaps = difference(one / "soap-ddp", two / "soap-ddp")
    assert gaps["train", "loss"] < 1e-4
    assert gaps["eval", "loss"] < 1e-4


@pytest.mark.parametrize("run", ["bf16", "updates"])
def test_mixed_precision_differs_by_its_own_rounding(one: Path, two: Path, run: str) -> None:
    gaps = difference(one / run, two / run)
    assert gaps["train", "loss"] < 2e-3
    assert gaps["probe", "kurtosis"] < 2e-2


@pytest.mark.parametrize("run", ["one-to-ddp", "one-to-fsdp", "fsdp-to-ddp", "ddp-to-fsdp"])
def test_a_checkpoint_goes_on_in_another_arrangement(one: Path, two: Path, run: str) -> None:
    assert difference(one / "whole", two / run).max() < 2e-5


def test_a_bit_that_changed_in_any_shard_is_found(two: Path, tmp_path: Path) -> None:
    (left,) = checkpoints(two / "fsdp-half")
    names = sorted(path.name for path in left.iterdir())
    assert names == [".metadata", "__0_0.distcp", "__1_0.distcp", "rest.pt"]
    for name in names:
        for change in ("flip", "cut", "remove"):
            shutil.copytree(two / "fsdp-half", tmp_path / "run")
            path = tmp_path / "run" / left.name / name
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 4
            path.write_bytes(content if change == "flip" else content[:-7])
            if change == "remove":
                path.unlink()
            with pytest.raises(OfeError, match=r"checkpoint-3.* cannot be read") as refused:
                train(tmp_path / "run", toy_config())
            assert refused.value.hint.endswith(f"rm -r {tmp_path / 'run' / left.name}")
            shutil.rmtree(tmp_path / "run")


@pytest.mark.parametrize("mode", MODES)
def test_one_process_goes_on_where_two_stopped(one: Path, two: Path, mode: str) -> None:
    (left,) = checkpoints(two / f"{mode}-half")
    assert left.name == {"ddp": "checkpoint.pt", "fsdp": "checkpoint-3"}[mode]
    train(two / f"{mode}-half", toy_config())
    assert difference(one / "whole", two / f"{mode}-half").max() < 2e-5


def test_one_checkpoint_is_kept(two: Path) -> None:
    assert [path.name for path in checkpoints(two / "ddp-to-fsdp")] == ["checkpoint-5"]
    assert not list((two / "ddp-to-fsdp").glob(".*"))


def test_recomputing_activations_changes_nothing(one: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for precision, same in (("fp32", "whole"), ("bf16", "bf16")):
        train(tmp_path / precision, toy_config(precision=precision), recompute=True)
        assert (tmp_path / precision / "trace.jsonl").read_bytes() == (one / same / "trace.jsonl").read_bytes()
    torch.set_num_threads(threads)


def test_accumulation_sees_the_same_batches(one: Path, tmp_path: Path) -> None:
    train(tmp_path, toy_config(), micro_batch=3)
    assert difference(one / "whole", tmp_path).max() < 2e-5
