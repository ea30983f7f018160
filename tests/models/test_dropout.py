"""Dropout as a function of example and place: its rate, its independence of how a batch is cut, and where it acts."""

from __future__ import annotations

import pytest
import torch

from reproduce.models.dropout import dropped
from tests.models.test_transformer import build, tokens

KEYS = torch.tensor([7, 123456789, 4_000_000_000])


def test_the_rate_and_the_mean() -> None:
    x = dropped(torch.ones(3, 200, 300), KEYS, 0, 0.1)
    assert sorted(set(x.flatten().tolist())) == pytest.approx([0, 1 / 0.9])
    assert float((x == 0).float().mean()) == pytest.approx(0.1, abs=0.002)
    assert float(x.mean()) == pytest.approx(1, abs=0.003)


def test_masks_differ_between_examples_branches_positions_and_neurons() -> None:
    kept = [dropped(torch.ones(3, 64, 64), KEYS, branch, 0.5) > 0 for branch in (0, 1)]
    pairs = [
        (kept[0], kept[1]),  # branches
        (kept[0][0], kept[0][1]),  # examples
        (kept[0][:, 1:], kept[0][:, :-1]),  # neighbouring positions
        (kept[0][..., 1:], kept[0][..., :-1]),  # neighbouring neurons
    ]
    for one, other in pairs:
        assert float((one == other).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_a_part_of_the_batch_meets_the_same_mask() -> None:
    x = torch.randn(3, 8, 16)
    assert torch.equal(dropped(x, KEYS, 2, 0.3)[1:], dropped(x[1:], KEYS[1:], 2, 0.3))


def test_branches_of_the_model_are_dropped_and_only_where_it_is_asked_for() -> None:
    model, ids = build("pre-ln", dropout=0.5), tokens()
    assert torch.equal(model(ids), build("pre-ln")(ids))
    first, again, others = (model(ids, keys) for keys in (KEYS, KEYS, KEYS + 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, others)
    torch.testing.assert_close(model(ids[1:], KEYS[1:]), first[1:])


def test_the_stream_without_its_branches_is_not_dropped() -> None:
    """With both gains 0 the branches add nothing, so that dropout has nothing to act on."""
    model, ids = build("op", dropout=0.5, block={"attn_gain": 0.0, "mlp_gain": 0.0}), tokens()
    assert torch.equal(model(ids, KEYS), model(ids))
