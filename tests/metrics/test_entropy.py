import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from reproduce.metrics.entropy import attention_entropy, attention_entropy_from_logits

from . import naive
from .streams import gaussian, generator, quick, seeds


def causal(logits: Tensor) -> Tensor:
    size = logits.shape[-1]
    return logits.masked_fill(torch.ones(size, size).triu(1).bool(), -math.inf)


def attention(batch: int, heads: int, size: int, sharpness: float, seed: int) -> Tensor:
    """Causal float64 logits (batch, heads, size, size)."""
    return causal(sharpness * gaussian(batch, heads, size, size, seed=seed))


logits = st.builds(
    attention, st.integers(1, 3), st.integers(1, 3), st.integers(1, 8), st.sampled_from([0.0, 1.0, 10.0, 1000.0]), seeds
)


@quick
@given(logits)
def test_entropy_is_equation_10(z):
    p = z.softmax(-1)
    assert attention_entropy(p).item() == pytest.approx(naive.entropy(p), rel=1e-12, abs=1e-15)
    assert_close(attention_entropy_from_logits(z), attention_entropy(p))


@quick
@given(logits, seeds)
def test_the_order_of_heads_and_a_shift_of_the_logits_do_not_matter(z, seed):
    order = torch.randperm(z.shape[1], generator=generator(seed))
    assert_close(attention_entropy_from_logits(z[:, order]), attention_entropy_from_logits(z))
    shift = gaussian(*z.shape[:-1], 1, seed=seed)
    assert_close(attention_entropy_from_logits(z + 10 * shift), attention_entropy_from_logits(z))


@quick
@given(logits)
def test_causal_entropy_lies_between_0_and_log_factorial(z):
    size = z.shape[-1]
    assert 0 <= attention_entropy_from_logits(z).item() <= math.lgamma(size + 1) / size + 1e-12


@pytest.mark.parametrize(("size", "nats"), [(1, 0.0), (2, 0.3466), (128, 3.878)])
def test_uniform_causal_attention_has_the_largest_entropy(size, nats):
    entropy = attention_entropy_from_logits(causal(torch.zeros(size, size)))
    assert entropy.item() == pytest.approx(math.lgamma(size + 1) / size, rel=1e-6)
    assert entropy.item() == pytest.approx(nats, abs=5e-4)


def test_one_key_per_query_gives_0():
    assert attention_entropy(torch.eye(5)[[0, 0, 1, 3, 2]]) == 0
    assert attention_entropy_from_logits(causal(1e5 * torch.eye(5))) == 0


@pytest.mark.parametrize("sharpness", [1e2, 1e4, 1e30])
def test_large_float32_logits_keep_their_digits(sharpness):
    z = attention(1, 2, 32, 1.0, seed=3).float()
    z = torch.where(z > 0, z * sharpness, z)
    z[..., 1:, 0] = z[..., 1:, :2].amax(-1)
    z[..., 1:, 1] = z[..., 1:, 0]
    expected = naive.entropy(z.double().softmax(-1))
    assert expected > 0.01
    assert attention_entropy_from_logits(z).item() == pytest.approx(expected, rel=1e-6)


def test_low_precision_is_upcast():
    z = attention(1, 2, 16, 1.0, seed=0).bfloat16()
    for metric, value in ((attention_entropy, z.softmax(-1)), (attention_entropy_from_logits, z)):
        assert metric(value).dtype == torch.float32
        assert torch.equal(metric(value), metric(value.float()))


def test_a_row_masked_throughout_has_no_entropy():
    assert attention_entropy_from_logits(torch.full((2, 2), -math.inf)).isnan()


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_nan_if_a_logit_is_infinite(value):
    z = torch.zeros(2, 2)
    z[1, 0] = value
    assert attention_entropy_from_logits(z).isnan()


def test_no_part_in_autograd():
    z = torch.randn(3, 3, requires_grad=True)
    assert not attention_entropy_from_logits(z).requires_grad
    assert not attention_entropy(z.softmax(-1)).requires_grad
