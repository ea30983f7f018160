"""The language task against plain loops over the batches it is given."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from reproduce.data import open_text
from reproduce.training.language import LanguageTask
from tests.runs import tiny_run, write_text_folder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_folder(tmp_path_factory.mktemp("text"))


def make(text: Path, *changes: str, seed: int = 0, micro_batch: int | None = None) -> LanguageTask:
    config = tiny_run(text, "eval.batches=3", *changes, seed=seed).config
    torch.manual_seed(config.seed)
    return LanguageTask(config, open_text(config.data), CPU, micro_batch)


def cross_entropy(task: LanguageTask, tokens: torch.Tensor) -> float:
    """Mean over examples and predicted tokens, one logarithm of a probability at a time."""
    with torch.no_grad():
        logs = F.log_softmax(task.model(tokens), dim=-1)
    predicted = [logs[row, place, tokens[row, place + 1]] for row in range(len(tokens)) for place in range(31)]
    return -float(torch.stack(predicted).mean())


def test_the_loss_is_that_of_every_next_token(text: Path) -> None:
    task = make(text)
    tokens = task.batch(0)
    assert tokens.shape == (4, 32)
    assert task.loss(tokens).item() == pytest.approx(cross_entropy(task, tokens), rel=1e-5)


@pytest.mark.parametrize("micro_batch", [None, 1, 3])
def test_an_evaluation_is_the_mean_over_its_batches(text: Path, micro_batch: int | None) -> None:
    task = make(text, micro_batch=micro_batch)
    losses = [cross_entropy(task, torch.from_numpy(task.corpus.eval_batch(index, 4))) for index in range(3)]
    assert task.evaluate() == {"loss": pytest.approx(sum(losses) / 3, rel=1e-5)}
    assert len({round(loss, 4) for loss in losses}) == 3, "no batch stands for the others"


def test_the_probe_batch_is_held_out_or_trained_on(text: Path) -> None:
    held_out, on_train = make(text), make(text, "probe.on=train-batch")
    assert torch.equal(held_out.probe_batch(3), torch.from_numpy(held_out.corpus.probe_batch(4)))
    assert torch.equal(held_out.probe_batch(3), held_out.probe_batch(4))
    assert torch.equal(on_train.probe_batch(3), on_train.batch(3))
    assert not torch.equal(on_train.batch(3), on_train.batch(4))


def test_batches_are_functions_of_the_seed_and_the_step(text: Path) -> None:
    first, second = make(text), make(text, seed=1)
    assert torch.equal(first.batch(2), make(text).batch(2))
    assert not torch.equal(first.batch(2), first.batch(3))
    assert not torch.equal(first.batch(2), second.batch(2))


def test_every_token_counts(text: Path) -> None:
    assert make(text).tokens_per_step == 4 * 32
