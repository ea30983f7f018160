"""Weights that a training keeps, and measurements that start from them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reproduce.errors import OfeError
from reproduce.job_config import MeasureConfig, RunParent
from reproduce.jobs.worker import main
from reproduce.models.transformer import Transformer
from reproduce.specs.runs import ResolvedRun
from reproduce.store.runs import RunFolder, Store
from reproduce.store.weights import read_weights
from reproduce.training.tasks import build_task
from reproduce.training.weights import load_weights
from tests.runs import create, tiny_run, write_text_folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_folder(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def trained(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ResolvedRun, RunFolder]:
    """A run that kept its weights of steps 0, 5 and its last one, 20."""
    run = tiny_run(text)
    folder = Store(tmp_path_factory.mktemp("home")).create(run, keep=[0, 5, 20])
    assert main([str(folder.path)]) == 0
    return run, folder


def measurement(run: ResolvedRun, step: int, **changes: object) -> ResolvedRun:
    settings = {"examples": run.training.probe.batch_size, "precision": run.training.precision} | changes
    config = MeasureConfig.model_validate({"parent": {"key": run.key, "step": step}, **settings})
    return ResolvedRun("seen", "Seen", run.setting, run.scale, run.seed, config, paper_data=False, parent=run)


def measured(run: ResolvedRun, folder: RunFolder, step: int, **changes: object) -> RunFolder:
    own = Store.of(folder).create(measurement(run, step, **changes))
    assert main([str(own.path)]) == 0
    return own


def test_kept_weights_are_those_of_their_steps(trained: tuple[ResolvedRun, RunFolder]) -> None:
    run, folder = trained
    assert folder.complete
    assert {path.name for path in folder.path.glob("*.safetensors")} == {
        "model-0.safetensors", "model-5.safetensors", "model.safetensors"
    }  # fmt: skip
    weights = read_weights(folder.path)
    assert (weights.end, weights.same_trace, sorted(weights.files)) == (20, True, [0, 5, 20])
    task, _ = build_task(run.training, torch.device("cpu"))
    drawn = [parameter.detach().clone() for parameter in task.model.parameters()]
    load_weights(folder.weights_file(0), task.model)
    assert all(torch.equal(*pair) for pair in zip(drawn, task.model.parameters(), strict=True))
    load_weights(folder.weights_file(20), task.model)
    assert not any(torch.equal(*pair) for pair in zip(drawn, task.model.parameters(), strict=True))


def test_the_weights_are_no_part_of_the_run(trained: tuple[ResolvedRun, RunFolder], text: Path, tmp_path: Path) -> None:
    without = create(tmp_path / "home", tiny_run(text))
    assert main([str(without.path)]) == 0
    assert without.path.name == trained[1].path.name
    assert (without.path / "SHA256SUMS").read_bytes() == (trained[1].path / "SHA256SUMS").read_bytes()
    assert not list(without.path.glob("*.safetensors"))


@pytest.mark.parametrize("step", [0, 5, 20])
def test_a_measurement_gives_what_the_training_saw_at_that_step(
    trained: tuple[ResolvedRun, RunFolder], step: int
) -> None:
    run, folder = trained
    trace, moments = folder.read_trace(), folder.read_moments()
    there = trace[(trace.split == "probe") & (trace.step == step)].reset_index(drop=True)
    child = measured(run, folder, step)
    assert child.path.name.startswith(f"seen-smoke-s0-at-{step}-")
    assert child.read_trace().equals(there)
    if step in set(moments.step):
        ours = child.read_moments()
        assert [list(vector) for vector in ours.second_moment] == [
            list(vector) for vector in moments[moments.step == step].second_moment
        ]
    provenance = child.provenance()
    assert (provenance["kind"], provenance["failed"], provenance["substitute"]) == ("measure", False, True)
    assert provenance["parent"] == {
        "name": folder.path.name,
        "step": step,
        "weights": read_weights(folder.path).files[step][1],
        "same_trace": True,
    }
    child.verify()


def test_other_examples_points_and_steps_are_other_jobs(trained: tuple[ResolvedRun, RunFolder]) -> None:
    run, folder = trained
    plain = measurement(run, 20)
    others = [measurement(run, 5), measurement(run, 20, examples=1), measurement(run, 20, point="attention-input")]
    assert len({one.key for one in (plain, *others)}) == 4
    assert len({one.recipe for one in (plain, *others)}) == 4
    fewer = measured(run, folder, 20, examples=1)
    assert not fewer.read_trace().equals(measured(run, folder, 20).read_trace())


def test_a_metric_that_was_added_since_is_measured_anew_and_trains_nothing_again(
    trained: tuple[ResolvedRun, RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, run_key = measurement(trained[0], 20).key, replace(trained[0]).key
    monkeypatch.setattr("reproduce.keys.STREAM_METRICS", ("kurtosis", "something_new"))
    assert measurement(trained[0], 20).key != before
    assert replace(trained[0]).key == run_key


def test_a_sealed_run_is_trained_once_more_for_its_weights_and_its_trace_stays(text: Path, tmp_path: Path) -> None:
    run = tiny_run(text)
    folder = create(tmp_path / "home", run)
    assert main([str(folder.path)]) == 0
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.path.iterdir()}
    with pytest.raises(OfeError, match=r"has not kept its weights of step 10, none"):
        folder.weights_file(10)
    folder.keep_weights([10])
    assert (folder.sealed, folder.complete) == (True, False)
    assert main([str(folder.path)]) == 0
    assert folder.complete
    assert folder.state == "sealed"
    after = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.path.iterdir()}
    assert {name: after[name] for name in before if name != "lock"} == {
        name: content for name, content in before.items() if name != "lock"
    }
    assert set(after) - set(before) == {"keep.json", "model-10.safetensors", "weights.json"}
    assert read_weights(folder.path).same_trace is True


def test_weights_of_a_repeated_training_that_went_another_way_say_so(text: Path, tmp_path: Path) -> None:
    folder = create(tmp_path / "home", tiny_run(text))
    other = create(tmp_path / "other", tiny_run(text, "optimizer.lr=0.002"))
    assert main([str(folder.path)]) == main([str(other.path)]) == 0
    for name in ("trace.parquet", "SHA256SUMS"):  # as if another machine had rounded otherwise
        shutil.copy(other.path / name, folder.path / name)
    folder.keep_weights([20])
    assert main([str(folder.path)]) == 0
    assert read_weights(folder.path).same_trace is False


def test_an_unfinished_run_that_has_passed_the_step_is_sealed_first_and_then_trained_once_more(
    text: Path, tmp_path: Path
) -> None:
    from reproduce.training.train import Execution, Interrupted, Training

    run = tiny_run(text)
    folder = create(tmp_path / "home", run)
    task, _ = build_task(run.training, torch.device("cpu"))
    training = Training(run.training, task, folder, Execution(torch.device("cpu")))
    with pytest.raises(Interrupted):
        training.run(lambda: training.step == 12)
    training.writer.close()
    folder.keep_weights([3])
    assert main([str(folder.path)]) == 0
    assert folder.complete
    assert sorted(read_weights(folder.path).files) == [3]


def test_weights_beyond_the_end_of_a_run_that_diverged_are_not_waited_for(text: Path, tmp_path: Path) -> None:
    changes = ("optimizer.lr=1e30", "grad_clip=null", "schedule.warmup_fraction=0.0")
    run = tiny_run(text, *changes, name="cp-presrms")
    folder = Store(tmp_path / "home").create(run, keep=[0, 20])
    assert main([str(folder.path)]) == 0
    assert folder.provenance()["failed"]
    assert folder.complete
    with pytest.raises(OfeError, match=r"ended at step \d+, before step 20"):
        folder.weights_file(20)


def test_a_measurement_without_its_parent_or_its_weights_says_what_is_missing(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run(text)
    store = Store(tmp_path / "home")
    child = store.create(measurement(run, 20))
    assert main([str(child.path)]) == 1
    assert f"the training {run.key}, whose weights are measured, is not in" in capsys.readouterr().err
    assert main([str(store.create(run).path)]) == 0
    assert main([str(child.path)]) == 1
    assert "has not kept its weights of step 20" in capsys.readouterr().err
    assert child.state == "failed"


def test_damaged_weights_are_found(trained: tuple[ResolvedRun, RunFolder], tmp_path: Path) -> None:
    copy = RunFolder(Path(shutil.copytree(trained[1].path, tmp_path / trained[1].path.name)))
    path = copy.path / "model-5.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for check in (copy.verify, lambda: copy.weights_file(5)):
        with pytest.raises(OfeError, match="checksum differs") as error:
            check()
        assert "weights.json" in str(error.value.hint)
    path.unlink()
    with pytest.raises(OfeError, match="is missing"):
        copy.verify()
    for damage in ("{", "[]", '{"end": 20}', '{"end": 20, "same_trace": true, "files": {"5": {"name": "../x"}}}'):
        (copy.path / "weights.json").write_text(damage)
        with pytest.raises(OfeError, match=r"weights\.json"):
            copy.verify()


def test_weights_that_are_listed_and_gone_are_kept_anew(text: Path, tmp_path: Path) -> None:
    folder = Store(tmp_path / "home").create(tiny_run(text), keep=[20])
    assert main([str(folder.path)]) == 0
    path = folder.path / "model.safetensors"
    before = path.read_bytes()
    path.unlink()
    assert folder.sealed
    assert not folder.complete
    assert main([str(folder.path)]) == 0
    assert path.read_bytes() == before
    assert path.stat().st_mode == (folder.path / "run.yaml").stat().st_mode, "others read it as they read the trace"


def test_a_run_is_repeated_and_measured_with_the_threads_it_was_trained_with(text: Path, tmp_path: Path) -> None:
    run = tiny_run(text)
    folder = create(tmp_path / "home", run)
    torch.set_num_threads(1)
    assert main([str(folder.path)]) == 0
    folder.keep_weights([20])
    torch.set_num_threads(2)
    assert main([str(folder.path)]) == 0
    assert read_weights(folder.path).same_trace is True
    torch.set_num_threads(2)
    child = measured(run, folder, 20)
    assert child.provenance()["threads"] == folder.provenance()["threads"] == 1


def test_of_two_folders_with_one_key_the_one_with_the_weights_is_measured(text: Path, tmp_path: Path) -> None:
    run = tiny_run(text)
    store = Store(tmp_path / "home")
    folder = store.create(run)
    assert main([str(folder.path)]) == 0
    shutil.copytree(folder.path, store.runs / f"aaa-{folder.key}")
    folder.keep_weights([10])
    assert main([str(folder.path)]) == 0
    child = measured(run, folder, 10)
    assert child.provenance()["parent"]["name"] == folder.path.name


def test_weights_of_another_model_are_refused(trained: tuple[ResolvedRun, RunFolder]) -> None:
    config = trained[0].training.model.model_copy(update={"layers": 1})
    with pytest.raises(OfeError, match="weights of another model"):
        load_weights(trained[1].weights_file(20), Transformer(config, 512, 32))


def test_a_tied_matrix_is_kept_once_and_loaded_into_both_places(text: Path, tmp_path: Path) -> None:
    run = tiny_run(text, "model.tied=true")
    folder = Store(tmp_path / "home").create(run, keep=[20])
    assert main([str(folder.path)]) == 0
    task, _ = build_task(run.training, torch.device("cpu"))
    load_weights(folder.weights_file(20), task.model)
    assert task.model.unembedding.weight is task.model.token_embedding.weight
    assert measured(run, folder, 20).sealed


def test_a_full_disk_is_told_and_leaves_no_half_of_a_file(
    trained: tuple[ResolvedRun, RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    from reproduce.training import weights

    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(OfeError, match="no space is left"):
        weights.keep_weights(tmp_path, torch.nn.Linear(2, 2), 3, 20)
    assert list(tmp_path.iterdir()) == []


def test_a_wish_adds_to_earlier_ones(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.keep_weights([])
    assert not (tmp_path / "keep.json").exists()
    folder.keep_weights([20])
    folder.keep_weights([5, 20])
    assert json.loads((tmp_path / "keep.json").read_text()) == {"steps": [5, 20]}
    (tmp_path / "keep.json").write_text('{"steps": "all"}')
    with pytest.raises(OfeError, match=r"keep\.json"):
        folder.keep_weights([1])


def test_a_parent_is_named_by_its_key() -> None:
    with pytest.raises(ValueError, match="key"):
        RunParent(key="cp-op", step=3)
