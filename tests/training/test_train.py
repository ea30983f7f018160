"""The loop against a loop written out plainly, and what a trace holds at its end."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from reproduce.data import open_text
from reproduce.errors import OfeError
from reproduce.jobs.worker import main, plan_execution
from reproduce.models.transformer import Transformer
from reproduce.store.layout import LIVE_MOMENTS, LIVE_TRACE
from reproduce.store.runs import RunFolder
from reproduce.training.language import LanguageTask
from reproduce.training.tasks import build_task
from reproduce.training.train import Execution, Interrupted, Training
from tests.runs import create, tiny_run, write_text_folder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_folder(tmp_path_factory.mktemp("text"))


def sealed(tmp_path: Path, text: Path, *changes: str, name: str = "cp-op") -> RunFolder:
    folder = create(tmp_path / "home", tiny_run(text, *changes, name=name))
    assert main([str(folder.path)]) == 0
    return folder


def series(trace: pd.DataFrame, split: str, metric: str, layer: str = "") -> pd.Series:
    rows = trace[(trace.split == split) & (trace.metric == metric) & (trace.layer == layer)]
    return rows.set_index("step").value


def test_the_losses_are_those_of_a_plain_loop(text: Path, tmp_path: Path) -> None:
    folder = sealed(tmp_path, text, "grad_clip=0.5")
    config = folder.config()
    corpus = open_text(config.data)
    torch.manual_seed(config.seed)
    model = Transformer(config.model, config.data.vocab_size, config.data.seq_len)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8, foreach=False)
    losses = []
    for step in range(config.steps):
        for group in optimizer.param_groups:
            warm, cool = step / 1, (config.steps - step) / (config.steps - 1)
            group["lr"] = config.optimizer.lr * min(warm, cool)
        tokens = torch.from_numpy(corpus.batch(config.seed, step, config.batch_size))
        logits = model(tokens)
        loss = F.cross_entropy(logits[:, :-1].reshape(-1, config.data.vocab_size), tokens[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
    assert config.schedule.warmup(config.steps) in (1, 2)
    if config.schedule.warmup(config.steps) == 1:
        recorded = series(folder.read_trace(), "train", "loss")
        assert recorded.tolist() == pytest.approx(losses, rel=1e-4)


def test_accumulated_gradients_give_the_same_losses(text: Path, tmp_path: Path) -> None:
    traces = []
    for size in (None, 1, 3):
        folder = create(tmp_path / str(size), tiny_run(text))
        torch.manual_seed(0)
        config = folder.config()
        task = LanguageTask(config, open_text(config.data), CPU)
        Training(config, task, folder, Execution(CPU, micro_batch=size)).run()
        from reproduce.store.trace import read_live

        traces.append(series(read_live(folder.path), "train", "loss"))
    for other in traces[1:]:
        assert other.tolist() == pytest.approx(traces[0].tolist(), rel=1e-4)


def test_a_trace_has_every_split_from_initialisation_to_the_end(text: Path, tmp_path: Path) -> None:
    trace = sealed(tmp_path, text).read_trace()
    assert series(trace, "train", "loss").index.tolist() == list(range(20))
    assert series(trace, "eval", "loss").index.tolist() == [0, 10, 20]
    assert series(trace, "probe", "kurtosis", "2").index.tolist() == [0, 1, 2, 4, 5, 10, 15, 20]
    assert not trace.duplicated(["step", "split", "metric", "layer"]).any()
    assert series(trace, "train", "loss").iloc[-1] < series(trace, "train", "loss").iloc[0]


def test_a_run_that_stops_before_its_schedule_ends_follows_it_so_far(text: Path, tmp_path: Path) -> None:
    whole, part = sealed(tmp_path, text).read_trace(), sealed(tmp_path, text, "stop_after=7").read_trace()
    assert series(part, "train", "loss").tolist() == series(whole, "train", "loss").tolist()[:7]
    assert part.step.max() == 7


def test_a_run_that_diverges_is_sealed_as_failed(text: Path, tmp_path: Path) -> None:
    changes = ("optimizer.lr=1e30", "grad_clip=null", "schedule.warmup_fraction=0.0")
    folder = sealed(tmp_path, text, *changes, name="cp-presrms")
    provenance, trace = folder.provenance(), folder.read_trace()
    assert provenance["failed"] is True
    assert trace.step.max() == provenance["failed_step"] < 20
    assert not trace.duplicated(["step", "split", "metric", "layer"]).any()


def test_moment_updates_of_every_step_add_up_to_what_the_probes_see(text: Path, tmp_path: Path) -> None:
    trace = sealed(tmp_path, text, "probe.moment_updates_layer=2").read_trace()
    orders = ("linear", "quadratic", "cubic", "quartic")
    total = sum(series(trace, "probe", f"m4_update_{order}", "2").sum() for order in orders)
    rms, kurtosis = series(trace, "probe", "activation_rms", "2"), series(trace, "probe", "kurtosis", "2")
    fourth = kurtosis * rms**4
    assert series(trace, "probe", "m4_update_linear", "2").index.tolist() == list(range(1, 21))
    assert total == pytest.approx(fourth.iloc[-1] - fourth.iloc[0], rel=1e-3)


def test_the_substitute_is_told(text: Path, tmp_path: Path) -> None:
    provenance = sealed(tmp_path, text).provenance()
    assert provenance["substitute"] is True
    assert provenance["data"]["source"] == "folder"


def test_a_seed_changes_weights_and_order(text: Path) -> None:
    first, second = tiny_run(text), tiny_run(text, seed=1)
    assert first.key != second.key
    corpus = open_text(first.config.data)
    assert (corpus.batch(0, 0, 4) != corpus.batch(1, 0, 4)).any()


@pytest.mark.parametrize("step", [0, 1, 3])
def test_a_run_that_is_stopped_goes_on_as_if_it_had_not_been(text: Path, tmp_path: Path, step: int) -> None:
    run = tiny_run(text, "probe.moment_updates_layer=2", name="cp-op")
    traces = []
    for name, stops in (("whole", ()), ("parts", (step,))):
        folder = create(tmp_path / name, run)
        for at in (*stops, None):
            task, _ = build_task(run.config, CPU)
            training = Training(run.config, task, folder, Execution(CPU))
            with suppress(Interrupted):
                training.run(lambda training=training, at=at: training.step == at)
            training.writer.close()
        traces.append((folder.path / LIVE_TRACE).read_bytes() + (folder.path / LIVE_MOMENTS).read_bytes())
    assert traces[0] == traces[1]


@pytest.mark.parametrize("value", ["soon", "-1"])
def test_a_senseless_time_between_checkpoints_is_refused(
    text: Path, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFE_CHECKPOINT_S", value)
    config = tiny_run(text).config
    with pytest.raises(OfeError, match="OFE_CHECKPOINT_S is"):
        plan_execution(config, CPU)


def test_an_unforeseen_error_is_told_in_one_line_and_a_former_one_forgotten(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = create(tmp_path / "home", tiny_run(text))
    folder.write_progress({"state": "failed", "error": "no space is left", "step": 7, "steps": 20})
    seen: list[Any] = []

    def fail(*_: Any, **__: Any) -> NoReturn:
        seen.append(folder.progress())
        raise RuntimeError("the device is gone")

    monkeypatch.setattr("reproduce.jobs.worker.build_task", fail)
    assert main([str(folder.path)]) == 1
    assert (seen[0]["state"], seen[0]["error"], seen[0]["step"]) == ("running", None, 7)
    errors = capfd.readouterr().err
    assert "Traceback" in errors
    assert "error: RuntimeError: the device is gone" in errors.splitlines()
