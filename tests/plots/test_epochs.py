from __future__ import annotations

import pytest

from reproduce.config import RunConfig
from reproduce.errors import SpecError
from reproduce.plots.epochs import steps_per_epoch

from .synthetic import Run, config_of


def images(**data: object) -> RunConfig:
    config = config_of(Run("mlp", "MLP", kind="mlp"), 3, 100, 0)
    return config.model_copy(update={"data": config.data.model_copy(update=data), "batch_size": 2048})


def test_the_paper_s_cifar_epoch_has_25_steps() -> None:
    assert steps_per_epoch(images(source="cifar10", train_images=None)) == 25


def test_a_drawn_epoch_has_as_many_images_as_configured() -> None:
    assert steps_per_epoch(images(train_images=4097)) == 3


def test_images_of_unknown_number_and_text_have_no_epoch() -> None:
    with pytest.raises(SpecError, match="how many images of mine"):
        steps_per_epoch(images(source="mine", train_images=None))
    with pytest.raises(SpecError, match="text has no epochs"):
        steps_per_epoch(config_of(Run("lm", "LM"), 3, 100, 0))
