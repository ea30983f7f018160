from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from reproduce.config import AugmentConfig
from reproduce.training.augment import augment, cutmix, erase, generator, kept_branches, rectangles, soft_targets

CLASSES = 4


def batch(count: int = 64, side: int = 16) -> tuple[Tensor, Tensor]:
    labels = torch.arange(count) % CLASSES
    images = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    return images, soft_targets(labels, CLASSES, 0.0)


def varied(seed: int = 0, step: int = 0, **fields: float | bool) -> tuple[Tensor, Tensor]:
    return augment(*batch(), AugmentConfig.model_validate(fields), seed, step)


def test_nothing_changes_by_default() -> None:
    images, targets = batch()
    found = augment(images, targets, AugmentConfig(), 0, 0)
    assert found[0] is images
    assert found[1] is targets


def test_all_is_a_function_of_seed_and_step() -> None:
    fields = {"flip": True, "erase": 0.25, "mixup": 0.8, "cutmix": 1.0}
    first = varied(1, 2, **fields)
    assert all(torch.equal(*pair) for pair in zip(first, varied(1, 2, **fields), strict=True))
    assert not torch.equal(first[0], varied(1, 3, **fields)[0])
    assert not torch.equal(first[0], varied(2, 2, **fields)[0])


def test_smoothed_targets_sum_to_one() -> None:
    targets = soft_targets(torch.tensor([2, 0]), CLASSES, 0.1)
    torch.testing.assert_close(targets, torch.tensor([[0.025, 0.025, 0.925, 0.025], [0.925, 0.025, 0.025, 0.025]]))


def test_flips_mirror_about_half_the_images() -> None:
    images, _ = batch()
    found, _ = varied(flip=True)
    same = (found == images).flatten(1).all(1)
    mirrored = (found == images.flip(-1)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 20 < mirrored.sum() < 44


def test_mixup_mixes_images_and_targets_alike() -> None:
    images, targets = batch()
    found, mixed = varied(mixup=0.8)
    weight = (mixed[0, 0] / targets[0, 0]).item()  # image 63, in its place in reverse, has another class
    assert 0 < weight < 1
    torch.testing.assert_close(found, weight * images + (1 - weight) * images.flip(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mixed.sum(1), torch.ones(64))


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.75, 1.0])
def test_cutmix_weighs_by_area(weight: float) -> None:
    images = torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16)])
    for step in range(20):
        found, own = cutmix(images, weight, generator(0, step, 1))
        assert 1 - found[0].mean().item() == pytest.approx(own)
        assert found[1].mean().item() == pytest.approx(own)
        assert own >= weight - 0.1  # a rectangle over the edge is clipped, its sides are whole pixels


def test_one_of_mixup_and_cutmix_is_taken_by_a_coin() -> None:
    images, _ = batch()
    cut = [
        ((found == images) | (found == images.flip(0))).all().item()
        for found, _ in (varied(step=step, mixup=0.8, cutmix=1.0) for step in range(60))
    ]
    assert 15 < sum(cut) < 45


def test_erased_rectangles_have_the_sizes_they_are_drawn_from() -> None:
    images = torch.full((2000, 3, 16, 16), 9.0)
    found = erase(images, 0.25, generator(0, 0, 1))
    changed = (found != images).all(1)
    touched = changed.flatten(1).any(1)
    assert touched.float().mean().item() == pytest.approx(0.25, abs=0.03)
    area = changed[touched].float().mean((1, 2))
    assert area.min() > 0.01
    assert area.max() < 0.4
    rows, columns = changed[touched].any(2).sum(1), changed[touched].any(1).sum(1)
    assert (rows * columns == changed[touched].sum((1, 2))).all()
    assert found[changed[:, None].expand_as(found)].std().item() == pytest.approx(1, abs=0.02)


def test_rectangles_are_where_they_are_said_to_be() -> None:
    corners = [np.array([value]) for value in (1, 2, 3, 1)]
    inside = rectangles(5, *corners, torch.device("cpu"))
    assert inside.shape == (1, 1, 5, 5)
    assert inside.nonzero()[:, 2:].tolist() == [[1, 2], [2, 2], [3, 2]]


def test_kept_branches_have_mean_one() -> None:
    keep = kept_branches(20_000, [0.0, 0.1], 0, 3)
    assert keep.shape == (20_000, 2, 2)
    assert (keep[:, 0] == 1).all()
    assert keep[:, 1].unique().tolist() == pytest.approx([0, 1 / 0.9])
    assert keep[:, 1].mean().item() == pytest.approx(1, abs=0.01)
    assert torch.equal(keep, kept_branches(20_000, [0.0, 0.1], 0, 3))
