"""The loop against a loop written out plainly, and what a trace holds at its end."""

from __future__ import annotations

import math
import resource
import subprocess
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reproduce.cadence import moment_steps
from reproduce.data import open_text
from reproduce.errors import OfeError
from reproduce.jobs.train import plan_execution
from reproduce.jobs.worker import main
from reproduce.metrics.kurtosis import kurtosis
from reproduce.metrics.mmr import mmr
from reproduce.models.transformer import Transformer
from reproduce.optim import learning_rate
from reproduce.specs.runs import ResolvedRun
from reproduce.store.layout import CHECKPOINT, LIVE_MOMENTS, LIVE_TRACE
from reproduce.store.runs import RunFolder
from reproduce.store.trace import read_live, read_moments
from reproduce.training import checkpoint
from reproduce.training.language import LanguageTask
from reproduce.training.tasks import build_task
from reproduce.training.train import Execution, Interrupted, Outcome, Task, Training
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


def test_losses_and_gradient_norms_are_those_of_a_plain_loop(text: Path, tmp_path: Path) -> None:
    folder = sealed(tmp_path, text, "grad_clip=0.5", "schedule.warmup_fraction=0.2")
    config = folder.config()
    corpus = open_text(config.data)
    torch.manual_seed(config.seed)
    model = Transformer(config.model, config.data.vocab_size, config.data.seq_len)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8, foreach=False)
    losses, norms = [], []
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.optimizer.lr * min(step / 4, (20 - step) / (20 - 4))
        tokens = torch.from_numpy(corpus.batch(config.seed, step, config.batch_size))
        logits = model(tokens)
        loss = F.cross_entropy(logits[:, :-1].reshape(-1, config.data.vocab_size), tokens[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm()))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
    trace = folder.read_trace()
    assert series(trace, "train", "loss").tolist() == pytest.approx(losses, rel=1e-4)
    assert series(trace, "train", "grad_norm").tolist() == pytest.approx(norms, rel=1e-3)
    assert min(norms) > 0.5, "every step is clipped, and the norm is the one before"


def test_accumulated_gradients_give_the_same_losses(text: Path, tmp_path: Path) -> None:
    traces = []
    for size in (None, 1, 3):
        folder = create(tmp_path / str(size), tiny_run(text))
        torch.manual_seed(0)
        config = folder.config()
        task = LanguageTask(config, open_text(config.data), CPU)
        Training(config, task, folder, Execution(CPU, micro_batch=size)).run()
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


def test_the_last_step_is_evaluated_and_probed_whatever_the_cadence(text: Path, tmp_path: Path) -> None:
    _, _, trace = trained(tmp_path, tiny_run(text, "eval.every=8", "probe.every=7"))
    assert series(trace, "eval", "loss").index.tolist() == [0, 8, 16, 20]
    assert series(trace, "probe", "kurtosis", "2").index.tolist() == [0, 1, 2, 4, 7, 14, 20]


def test_a_probe_of_the_train_batch_takes_the_batch_that_the_step_trains_on(text: Path, tmp_path: Path) -> None:
    run = tiny_run(text, "probe.on=train-batch", "stop_after=7")
    training, _, trace = trained(tmp_path, run)
    corpus = open_text(run.config.data)
    recorded = series(trace, "probe", "kurtosis", "2")
    assert recorded.index[-1] == 7
    with torch.no_grad():
        kurtoses = [
            float(kurtosis(training.task.encode(torch.from_numpy(corpus.batch(0, step, 4)), blocks=1)))
            for step in (6, 7, 8)
        ]
    assert recorded.loc[7] == pytest.approx(kurtoses[1], rel=1e-5)
    assert abs(kurtoses[0] / kurtoses[1] - 1) > 1e-3
    assert abs(kurtoses[2] / kurtoses[1] - 1) > 1e-3


def test_second_moments_are_those_of_the_probe_batch_at_the_steps_that_keep_them(text: Path, tmp_path: Path) -> None:
    run = tiny_run(text)
    training, _, _ = trained(tmp_path, run)
    moments = {(moment.step, moment.layer): moment.second_moment for moment in read_moments(training.folder.path)}
    kept = sorted(moment_steps(20, 5))
    assert list(moments) == [(step, layer) for step in kept for layer in ("1", "2", "unembed")]
    assert {0, 20} < set(kept) < set(range(21))
    tokens = torch.from_numpy(open_text(run.config.data).probe_batch(4))
    with torch.no_grad():
        stream = training.task.encode(tokens, blocks=1).flatten(0, 1)  # (B T, D)
    assert moments[20, "2"] == pytest.approx(stream.square().mean(0).tolist(), rel=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_evaluation_and_probe_are_all_done_in_the_precision_of_the_run(
    text: Path, tmp_path: Path, precision: str
) -> None:
    """At initialisation: what is recorded is the loss, of the batches concerned, that a plain autocast gives."""
    run = tiny_run(text, f"precision={precision}", "stop_after=1")
    _, _, trace = trained(tmp_path, run)
    config, corpus = run.config, open_text(run.config.data)
    dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]

    def plain(batches: list[np.ndarray], dtype: torch.dtype | None) -> tuple[float, float]:
        torch.manual_seed(config.seed)
        model = Transformer(config.model, config.data.vocab_size, config.data.seq_len)
        losses = []
        with torch.no_grad(), torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            for batch in batches:
                tokens = torch.from_numpy(batch)
                logits = model(tokens).float()[:, :-1].flatten(0, 1)
                losses.append(F.cross_entropy(logits, tokens[:, 1:].flatten()).item())
            stream = model.encode(torch.from_numpy(corpus.probe_batch(4)), observe=lambda *_: None)  # as a probe
        return sum(losses) / len(losses), float(mmr(stream.flatten(0, 1).float(), "max"))

    evaluated, train = [corpus.eval_batch(index, 4) for index in range(2)], [corpus.batch(0, 0, 4)]
    recorded = {
        "eval": series(trace, "eval", "loss").loc[0],
        "train": series(trace, "train", "loss").loc[0],
        "probe": series(trace, "probe", "mmr_max", "unembed").loc[0],
    }

    def expected(dtype: torch.dtype | None) -> dict[str, float]:
        (loss, seen), (mean, _) = plain(evaluated, dtype), plain(train, dtype)
        return {"eval": loss, "train": mean, "probe": seen}

    own = expected(dtype)
    assert recorded == pytest.approx(own, rel=3e-7)
    for other in {None, torch.bfloat16, torch.float16} - {dtype}:
        for name, value in expected(other).items():
            assert abs(recorded[name] - value) > 2 * abs(recorded[name] - own[name]), (name, other)


def test_fp16_trains_as_fp32_does_with_gradients_that_are_scaled_and_scaled_back(text: Path, tmp_path: Path) -> None:
    """The gradients are scaled by 65,536 on the way; norms and clipping must know nothing of it."""
    traces = {
        precision: trained(
            tmp_path / precision, tiny_run(text, f"precision={precision}", "grad_clip=0.5", "stop_after=6")
        )
        for precision in ("fp32", "fp16")
    }
    assert traces["fp16"][0].scaler.get_scale() == 65_536
    for metric in ("loss", "grad_norm"):
        whole, half = (series(trace, "train", metric).tolist() for _, _, trace in traces.values())
        assert half == pytest.approx(whole, rel=0.01)


def never_finite(task: Task) -> None:
    task.model.unembedding.weight.register_hook(lambda gradient: gradient * math.inf)


def test_an_fp16_run_whose_gradients_are_never_finite_fails_after_its_patience(text: Path, tmp_path: Path) -> None:
    run = tiny_run(text, "precision=fp16", "stop_after=10")
    folder = create(tmp_path, run)
    task, _ = build_task(run.config, CPU)
    never_finite(task)
    before = [parameter.detach().clone() for parameter in task.model.parameters()]
    training = Training(run.config, task, folder, Execution(CPU))
    assert training.run().failed_step == 9, "the tenth"
    assert all(torch.equal(old, new) for old, new in zip(before, task.model.parameters(), strict=True))
    assert training.scaler.get_scale() == 65_536 / 2**9, "halved at each skipped step"
    trace = read_live(folder.path)
    assert series(trace, "train", "loss").map(math.isfinite).all()
    assert not series(trace, "train", "grad_norm").map(math.isfinite).any()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_in_other_precisions_the_step_is_taken_and_the_next_loss_tells(
    text: Path, tmp_path: Path, precision: str
) -> None:
    run = tiny_run(text, f"precision={precision}", "schedule.warmup_fraction=0")
    task, _ = build_task(run.config, CPU)
    never_finite(task)
    outcome = Training(run.config, task, create(tmp_path, run), Execution(CPU)).run()
    assert outcome.failed_step == 1


def test_in_other_precisions_a_norm_that_overflows_fails_nothing(text: Path, tmp_path: Path) -> None:
    """The gradients themselves are finite, and are clipped to nothing: no step is skipped."""
    run = tiny_run(text, "stop_after=12")
    task, _ = build_task(run.config, CPU)
    task.model.unembedding.weight.register_hook(lambda gradient: gradient * 1e30)
    folder = create(tmp_path, run)
    assert Training(run.config, task, folder, Execution(CPU)).run().failed_step is None
    assert series(read_live(folder.path), "train", "grad_norm").map(math.isinf).sum() == 12


def test_live_state_tells_pace_and_the_time_that_is_left(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seconds a step, as a clock shows that moves with the steps: 4 sequences of 32 tokens, 20 steps."""
    run = tiny_run(text, name="cp-presrms")
    folder = create(tmp_path, run)
    task, _ = build_task(run.config, CPU)
    training, states = Training(run.config, task, folder, Execution(CPU)), []
    monkeypatch.setattr("reproduce.training.train.time.perf_counter", lambda: 100.0 + 2 * training.step)
    monkeypatch.setattr(RunFolder, "write_progress", lambda folder, state: states.append(state))
    outcome = training.run()
    assert [state["step"] for state in states] == list(range(1, 21))
    assert {state["tokens_per_s"] for state in states} == {4 * 32 / 2}
    assert [state["eta_s"] for state in states] == [2.0 * (20 - step) for step in range(1, 21)]
    assert {state["steps"] for state in states} == {20}
    trace = read_live(folder.path)
    assert [state["loss"] for state in states] == series(trace, "train", "loss").tolist()
    seen = trace[trace.metric == "kurtosis"]
    assert [state["peak_kurtosis"] for state in states] == [
        seen[seen.step < state["step"]].value.max() for state in states
    ]
    assert (outcome.seconds, outcome.trained_steps) == (40.0, 20)


def test_live_state_of_a_resumed_run_counts_its_own_steps_alone(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(text)
    folder = create(tmp_path, run)
    first = Training(run.config, build_task(run.config, CPU)[0], folder, Execution(CPU))
    with pytest.raises(Interrupted):
        first.run(lambda: first.step == 15)
    training, states = Training(run.config, build_task(run.config, CPU)[0], folder, Execution(CPU)), []
    monkeypatch.setattr("reproduce.training.train.time.perf_counter", lambda: 100.0 + 2 * training.step)
    monkeypatch.setattr(RunFolder, "write_progress", lambda folder, state: states.append(state))
    outcome = training.run()
    assert [(state["step"], state["eta_s"], state["tokens_per_s"]) for state in states] == [
        (step, 2.0 * (20 - step), 64.0) for step in range(16, 21)
    ]
    assert (outcome.seconds, outcome.trained_steps) == (10.0, 5)


def test_provenance_tells_the_pace(text: Path, tmp_path: Path) -> None:
    provenance = sealed(tmp_path, text).provenance()
    assert provenance["trained_steps"] == 20
    assert provenance["tokens_per_s"] == pytest.approx(20 * 4 * 32 / provenance["seconds"])


def test_a_run_that_stops_before_its_schedule_ends_follows_it_so_far(text: Path, tmp_path: Path) -> None:
    whole, part = sealed(tmp_path, text).read_trace(), sealed(tmp_path, text, "stop_after=7").read_trace()
    assert series(part, "train", "loss").tolist() == series(whole, "train", "loss").tolist()[:7]
    assert part.step.max() == 7


def scripted(monkeypatch: pytest.MonkeyPatch, value: Callable[[int], float]) -> None:
    """Give the training loss of update number n the `value(n)`; gradients and evaluations stay as they are."""
    real, updates = LanguageTask.loss, count()

    def loss(task: LanguageTask, tokens: Tensor) -> Tensor:
        mean = real(task, tokens)
        return mean - mean.detach() + value(next(updates)) if torch.is_grad_enabled() else mean

    monkeypatch.setattr(LanguageTask, "loss", loss)


def trained(home: Path, run: ResolvedRun, **execution: Any) -> tuple[Training, Outcome, pd.DataFrame]:
    """A run trained to its end in this process: its last state, how it ended, and its live trace."""
    folder = create(home, run)
    task, _ = build_task(run.config, CPU)
    training = Training(run.config, task, folder, Execution(CPU, **execution))
    return training, training.run(), read_live(folder.path)


LOW_THEN = {"nan at 12": lambda step: math.nan if step == 12 else 1.0, "high": lambda step: 1.0 if step < 12 else 5.0}


@pytest.mark.parametrize(("how", "at"), [("nan at 12", 12), ("high", 21)])
@pytest.mark.parametrize("every", [10, 1])
def test_a_failed_run_says_which_update_failed_and_its_trace_ends_there(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, at: int, every: int
) -> None:
    """High losses fail a run at the tenth of them, 12 to 21; whether the step is one that is probed makes no odds."""
    scripted(monkeypatch, LOW_THEN[how])
    folder = sealed(tmp_path, text, "steps=40", f"probe.every={every}", "eval.every=11")
    provenance, trace = folder.provenance(), folder.read_trace()
    assert (provenance["failed"], provenance["failed_step"], provenance["trained_steps"]) == (True, at, at)
    assert series(trace, "train", "loss").index.tolist() == list(range(at + 1))
    assert series(trace, "probe", "kurtosis", "2").index[-1] == at
    assert series(trace, "eval", "loss").index.tolist() == [0, 11]
    assert trace.step.max() == at
    assert not trace.duplicated(["step", "split", "metric", "layer"]).any()


@pytest.mark.parametrize(("how", "at"), [("nan at 12", 12), ("high", 21)])
def test_the_step_that_fails_a_run_is_not_taken(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, at: int
) -> None:
    run = tiny_run(text, "steps=40")
    scripted(monkeypatch, LOW_THEN[how])
    failed, outcome, _ = trained(tmp_path / "failed", run)
    scripted(monkeypatch, lambda _: 1.0)
    part, _, _ = trained(tmp_path / "part", tiny_run(text, "steps=40", f"stop_after={at}"))
    assert outcome.failed_step == at
    for ours, theirs in zip(failed.task.model.parameters(), part.task.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_run_that_is_wild_from_the_start_fails(text: Path, tmp_path: Path) -> None:
    changes = ("optimizer.lr=1e30", "grad_clip=null", "schedule.warmup_fraction=0.0")
    folder = sealed(tmp_path, text, *changes, name="cp-presrms")
    provenance, trace = folder.provenance(), folder.read_trace()
    assert provenance["failed"] is True
    assert trace.step.max() == provenance["failed_step"] < 20


@pytest.mark.parametrize(
    ("how", "starts", "last"),
    [("nan at 12", [0, 5, 10, 12], math.nan), ("high", [0, 5, 10, 15, 20, 21], 5.0), ("low", [0, 5, 10, 15, 20], 1.0)],
)
def test_no_loss_is_lost_where_a_record_averages_several_steps(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, starts: list[int], last: float
) -> None:
    """Five steps a record; the failing one has its own, and the last window may be shorter (20 to 22)."""
    monkeypatch.setattr("reproduce.training.train.log_every", lambda last_step: 5)
    losses = LOW_THEN.get(how, lambda step: 1.0)
    scripted(monkeypatch, lambda step: losses(step) + step / 1_000)
    _, outcome, trace = trained(tmp_path, tiny_run(text, "steps=40", "stop_after=23"))
    recorded = series(trace, "train", "loss")
    end = 23 if outcome.failed_step is None else outcome.failed_step + 1
    windows = [range(start, stop) for start, stop in zip(starts, [*starts[1:], end], strict=True)]
    expected = [sum(losses(step) + step / 1_000 for step in window) / len(window) for window in windows]
    assert recorded.index.tolist() == starts
    assert recorded.tolist() == pytest.approx(expected, rel=1e-4, nan_ok=True)
    assert recorded.iloc[-1] == pytest.approx(last, rel=0.05, nan_ok=True)
    rates = series(trace, "train", "lr")
    ends = [learning_rate_at(tiny_run(text, "steps=40"), window[-1]) for window in windows]
    assert rates.tolist() == pytest.approx(ends)


def learning_rate_at(run: ResolvedRun, step: int) -> float:
    config = run.config
    return learning_rate(config.schedule, step, config.steps, config.optimizer.lr)


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
    tasks = [build_task(run.config, CPU)[0] for run in (first, first, second)]
    drawn = [task.model.unembedding.weight for task in tasks]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    batches = [task.batch(0) for task in tasks]
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


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

    monkeypatch.setattr("reproduce.jobs.train.build_task", fail)
    assert main([str(folder.path)]) == 1
    assert (seen[0]["state"], seen[0]["error"], seen[0]["step"]) == ("running", None, 7)
    errors = capfd.readouterr().err
    assert "Traceback" in errors
    assert "error: RuntimeError: the device is gone" in errors.splitlines()


@pytest.mark.parametrize("change", ["groups", "shape", "missing"])
def test_a_checkpoint_of_another_version_says_so_and_how_to_go_on(text: Path, tmp_path: Path, change: str) -> None:
    run = tiny_run(text)
    folder = create(tmp_path / "home", run)
    task, _ = build_task(run.training, CPU)
    training = Training(run.training, task, folder, Execution(CPU))
    with suppress(Interrupted):
        training.run(lambda: training.step == 3)
    training.writer.close()
    path = folder.path / CHECKPOINT
    state = torch.load(path, weights_only=True)
    if change == "groups":
        state["optimizer"]["param_groups"].append(dict(state["optimizer"]["param_groups"][0]))
    elif change == "shape":
        state["model"]["unembedding.weight"] = torch.zeros(2, 2)
    else:
        del state["divergence"]
    checkpoint._write(path, state)  # with its checksum, as that version would have written it
    task, _ = build_task(run.training, CPU)
    with pytest.raises(OfeError, match="written by another version of ofe") as caught:
        Training(run.training, task, folder, Execution(CPU))
    assert f"remove {path}" in str(caught.value.hint)
    assert path.exists()


def test_a_full_disk_is_told_when_a_checkpoint_is_written(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(text)
    folder = create(tmp_path / "home", run)
    task, _ = build_task(run.training, CPU)
    training = Training(run.training, task, folder, Execution(CPU))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # as a disk that has no more room
    try:
        with pytest.raises(OfeError, match="larger than the limit for files") as caught:
            training.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "ulimit" in str(caught.value.hint)
    assert not list(folder.path.glob("*checkpoint*"))
    assert not list(folder.path.glob(".*"))
    training.save()
    assert (folder.path / CHECKPOINT).exists()


def test_a_checkpoint_that_cannot_be_read_says_the_one_command_that_goes_on(text: Path, tmp_path: Path) -> None:
    run = tiny_run(text)
    folder = create(tmp_path / "home", run)
    (folder.path / CHECKPOINT).write_bytes(b"half of a checkpoint")
    task, _ = build_task(run.training, CPU)
    with pytest.raises(OfeError, match="cannot be read") as caught:
        Training(run.training, task, folder, Execution(CPU))
    hint = str(caught.value.hint)
    subprocess.run(hint[hint.index("rm -r") :], shell=True, check=True)
    Training(run.training, task, folder, Execution(CPU)).run()
