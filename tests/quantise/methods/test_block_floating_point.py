"""Block floating point of keys: formats by hand, scores that sorting leaves alone, and when sorting gains."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reproduce.quantise.methods.block_floating_point import KeyQuantiser, bits_per_value, block_floating_point, order


def keys(seed: int = 0) -> Tensor:
    """(2, 3, 50, 32) keys with channels of lognormal size."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randn(1, 3, 1, 32, generator=generator).exp()
    return sizes * torch.randn(2, 3, 50, 32, generator=generator)


def error(x: Tensor, made: Tensor) -> float:
    return float((x - made).norm() / x.norm())


def test_the_format_by_hand() -> None:
    """The largest of the block is 5, so e = 2 and the step of a mantissa of 4 bits is 1; -8 to 7 are its integers."""
    x = torch.tensor([5.0, 0.4, -0.6, 2.5, 0.0, 0.0, 0.0, 0.0])
    assert block_floating_point(x, 4).tolist() == [5, 0, -1, 2, 0, 0, 0, 0]
    assert block_floating_point(torch.tensor([7.9, -7.9]), 2).tolist() == [7, -8]
    assert bits_per_value(32) == 4.25


def test_blocks_must_divide() -> None:
    with pytest.raises(ValueError, match="no multiple of blocks of 5"):
        block_floating_point(keys(), 5)


def test_the_same_order_of_queries_and_keys_keeps_the_scores() -> None:
    k, q = keys(), torch.randn(2, 3, 50, 32)
    index = order(k)[None, :, None].expand_as(k)
    torch.testing.assert_close(q.gather(-1, index) @ k.gather(-1, index).mT, q @ k.mT, rtol=1e-4, atol=1e-4)
    norms = k.gather(-1, index).square().sum(dim=(0, 2))
    assert (norms.diff(dim=-1) >= 0).all()


def test_the_quantiser_gives_what_permuted_projections_give() -> None:
    k = keys()
    index = order(k)[None, :, None].expand_as(k)
    made = KeyQuantiser(8, 3, order(k))(k)
    assert torch.equal(made.gather(-1, index), block_floating_point(k.gather(-1, index), 8))
    whole = k.transpose(1, 2).flatten(-2)  # (B, T, H K), as a projection gives them
    assert torch.equal(KeyQuantiser(8, 3, order(k))(whole), made.transpose(1, 2).flatten(-2))


def test_sorting_does_nothing_in_blocks_of_a_head() -> None:
    k = keys()
    ordered, plain = KeyQuantiser(32, 3, order(k))(k), KeyQuantiser(32, 3)(k)
    torch.testing.assert_close(ordered, plain, rtol=0, atol=0)


def test_small_blocks_gain_from_sorting_where_few_channels_dominate() -> None:
    """Eight large channels of each head, which lie apart, spoil all blocks of 8, or none but their own if sorted."""
    k = torch.randn(2, 3, 50, 32, generator=torch.Generator().manual_seed(0))
    k[..., ::4] *= 30
    others = torch.arange(32) % 4 != 0
    plain, ordered = (KeyQuantiser(8, 3, channels)(k) for channels in (None, order(k)))
    spoilt, spared = error(k[..., others], plain[..., others]), error(k[..., others], ordered[..., others])
    assert spared < spoilt / 3
