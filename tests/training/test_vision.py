"""The image task against plain loops over the images it is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reproduce.config import RunConfig
from reproduce.data import open_images
from reproduce.data.images.image_set import Labelled, StoredImages
from reproduce.errors import OfeError
from reproduce.parallel.shares import shared_parts
from reproduce.training.vision import ImageBatch, ImageTask

CPU = torch.device("cpu")
MLP = {"kind": "mlp", "layers": 2, "width": 16, "norm": "srms"}
VIT = {"kind": "vit", "layers": 2, "width": 16, "heads": 2, "patch": 4}


def run(model: dict[str, Any] = MLP, **data: Any) -> RunConfig:
    images = {"kind": "images", "source": "photo-patches", "side": 8, "train_images": 40}
    return RunConfig.model_validate(
        {
            "model": model,
            "data": images | data,
            "optimizer": {"lr": 1e-3},
            "steps": 10,
            "batch_size": 16,
            "probe": {"every": 5, "batch_size": 24},
            "eval": {"every": 5, "batches": 3},
        }
    )


def make(config: RunConfig) -> ImageTask:
    torch.manual_seed(config.seed)
    assert config.data.kind == "images"
    return ImageTask(config, open_images(config.data), CPU)


def stored(config: RunConfig) -> ImageTask:
    """The task on 40 training and 30 held-out images that lie in memory; the pixels of image i are 8 i."""
    assert config.data.kind == "images"
    labels = np.arange(40) % 10
    pixels = np.broadcast_to(8 * np.arange(40)[:, None, None, None], (40, 3, 8, 8)).astype(np.uint8)
    images = StoredImages("", Labelled(pixels, labels), Labelled(pixels[:30], labels[:30]))
    return ImageTask(config, open_images(config.data)._replace(set=images), CPU)


def test_a_batch_is_normalised_as_the_data_say() -> None:
    task = make(run())
    images, labels = open_images(run().data).set.train_batch(0, 1, 16)
    mean, scale = open_images(run().data).normalisation
    batch = task.batch(1)
    expected = (images / 255 - mean[:, None, None]) * scale[:, None, None]
    np.testing.assert_allclose(batch.inputs.numpy(), expected, atol=1e-5)
    assert batch.labels.tolist() == labels.tolist()
    assert batch.inputs.std().item() == pytest.approx(1, abs=0.15)


def test_whitened_batches_have_variance_one() -> None:
    task = make(run(whiten=True, train_images=4096))
    x = torch.cat([task.batch(step).inputs for step in range(200)])
    assert x.shape == (3200, 192)
    assert x[:, :20].var(0).mean().item() == pytest.approx(1, abs=0.1)
    correlations = torch.corrcoef(x[:, :20].T) - torch.eye(20)
    assert correlations.abs().mean() < 0.03  # exactness on the images it is fitted to: tests/data/test_whitening.py


def test_an_epoch_has_a_smaller_last_batch() -> None:
    for task in (make(run()), stored(run())):
        assert [len(task.batch(step)) for step in range(4)] == [16, 16, 8, 16]


def test_stored_images_come_once_an_epoch() -> None:
    task = stored(run())
    epochs = [torch.cat([task.batch(3 * epoch + step).inputs for step in range(3)]) for epoch in range(2)]
    values = [epoch[:, 0, 0, 0] for epoch in epochs]
    assert len(values[0].unique()) == 32  # 8 i wraps around at 256
    assert torch.equal(values[0].sort().values, values[1].sort().values)
    assert not torch.equal(values[0], values[1])


def test_a_batch_is_cut_in_order() -> None:
    vit = make(run(VIT | {"drop_path": 0.5}, augment={"label_smoothing": 0.1}))
    for batch in (make(run()).batch(0), vit.batch(0)):
        parts = shared_parts(batch, 6)
        assert [len(part) for part in parts] == [5, 5, 6]
        for name in ("inputs", "labels", "targets", "keep"):
            whole, pieces = getattr(batch, name), [getattr(part, name) for part in parts]
            assert (whole is None) == (pieces[0] is None)
            assert whole is None or torch.equal(torch.cat(pieces), whole)


def test_the_mlp_s_loss_is_the_mean_square_against_one_hot_targets() -> None:
    task = make(run())
    torch.nn.init.normal_(task.model.readout.weight)
    batch = task.batch(0)
    logits = task.model(batch.inputs)
    squares = [(logits[i, j] - float(j == batch.labels[i])) ** 2 for i in range(16) for j in range(10)]
    assert task.loss(batch).item() == pytest.approx(torch.stack(squares).mean().item(), rel=1e-5)


def test_the_vit_s_loss_is_cross_entropy_with_smoothed_targets() -> None:
    task = make(run(VIT, augment={"label_smoothing": 0.1}))
    batch = task.batch(0)
    expected = F.cross_entropy(task.model(batch.inputs), batch.labels, label_smoothing=0.1)
    torch.testing.assert_close(task.loss(batch), expected)
    held_out = task.probe_batch(0)
    assert held_out.targets.sum() == 24
    assert held_out.targets.max() == 1


def test_training_images_are_varied_and_held_out_ones_are_not() -> None:
    plain, varied = make(run(VIT)), make(run(VIT, augment={"flip": True, "mixup": 0.8, "erase": 0.5}))
    assert not torch.equal(plain.batch(0).inputs, varied.batch(0).inputs)
    assert torch.equal(varied.batch(0).inputs, varied.batch(0).inputs)
    assert torch.equal(plain.probe_batch(0).inputs, varied.probe_batch(0).inputs)
    assert torch.equal(plain.batch(0).labels, varied.batch(0).labels)


@pytest.mark.parametrize("whiten", [False, True])
def test_an_evaluation_is_the_mean_over_its_images(whiten: bool) -> None:
    task = make(run(whiten=whiten))
    torch.nn.init.normal_(task.model.readout.weight)
    images, labels = open_images(task.config.data).set.test_batch(0, 48)
    inputs, numbers = task._normalise(torch.from_numpy(images)), torch.from_numpy(labels)
    logits = task.model(inputs)
    expected = {
        "loss": F.mse_loss(logits, F.one_hot(numbers, 10).float()).item(),
        "accuracy": (logits.argmax(1) == numbers).float().mean().item(),
    }
    assert task.evaluate() == pytest.approx(expected, rel=1e-5)


def test_an_evaluation_takes_no_more_images_than_there_are() -> None:
    task = stored(run())
    torch.nn.init.normal_(task.model.readout.weight)
    assert [len(batch) for batch in task._evaluation()] == [16, 14]
    logits = torch.cat([task.model(batch.inputs) for batch in task._evaluation()])
    labels = torch.cat([batch.labels for batch in task._evaluation()])
    assert task.evaluate()["accuracy"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def test_train_accuracy_is_that_of_the_batches_since_it_was_asked() -> None:
    task = make(run())
    torch.nn.init.normal_(task.model.readout.weight)
    batch = task.batch(0)
    hits = (task.model(batch.inputs).argmax(1) == batch.labels).float().mean().item()
    for part in (batch[:5], batch[5:]):
        task.loss(part)
    assert task.train_metrics() == {"accuracy": pytest.approx(hits)}
    task.evaluate()
    task.loss(batch)
    assert task.train_metrics() == {"accuracy": pytest.approx(hits)}


def test_the_probe_batch_is_held_out_or_trained_on() -> None:
    task = make(run())
    assert len(task.probe_batch(3)) == 24
    assert torch.equal(task.probe_batch(3).inputs, task.probe_batch(4).inputs)
    changed = run().model_copy(update={"probe": run().probe.model_copy(update={"on": "train-batch"})})
    on_train = make(changed)
    assert torch.equal(on_train.probe_batch(1).inputs, on_train.batch(1).inputs)


def test_a_probe_batch_larger_than_what_is_held_out_is_told() -> None:
    config = run()
    with pytest.raises(OfeError, match="a probe batch of 31 images is more than the 30 held out"):
        stored(config.model_copy(update={"probe": config.probe.model_copy(update={"batch_size": 31})}))


def test_positions_count_as_tokens() -> None:
    assert make(run()).tokens_per_step == 16
    assert make(run(VIT)).tokens_per_step == 16 * 5


def test_encoding_stops_where_it_is_told() -> None:
    for model, shape in ((MLP, (24, 16)), (VIT, (24, 5, 16))):
        task = make(run(model))
        batch: ImageBatch = task.probe_batch(0)
        assert task.encode(batch, blocks=1).shape == shape
