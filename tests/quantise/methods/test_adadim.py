"""AdaDim: the two dimensions are transposes, and the choice is the better one."""

from __future__ import annotations

import pytest
import torch

from reproduce.quantise.methods.adadim import choose, per
from tests.quantise.layers import relative_error

X = torch.randn(512, 64, generator=torch.Generator().manual_seed(0))
W = 0.02 * torch.randn(64, 64, generator=torch.Generator().manual_seed(1))


def test_groups_of_outputs_are_groups_of_inputs_of_the_transpose() -> None:
    assert torch.equal(per(W, "ic", 3, 16), per(W.T.contiguous(), "oc", 3, 16).T)
    assert not torch.equal(per(W, "ic", 3, 16), per(W, "oc", 3, 16))


@pytest.mark.parametrize("case", ["outlier channel", "large outputs"])
def test_the_choice_follows_where_the_outliers_are(case: str) -> None:
    """An outlier in the inputs, whose weights are small, is best kept in groups of its own; large rows as well."""
    x, w = X.clone(), W.clone()
    if case == "outlier channel":
        x[:, 5] *= 30
        w[:, 5] /= 10
    else:
        w[7::16] *= 6  # one in each group of outputs
    errors = {dim: relative_error(x, w, lambda z, d=dim: z @ per(w, d, 3, 16).T) for dim in ("oc", "ic")}
    chosen, quantised = choose(x, w, 3, 16)
    assert chosen == ("ic" if case == "outlier channel" else "oc")
    assert errors[chosen] == min(errors.values())
    assert relative_error(x, w, lambda z: z @ quantised.T) == errors[chosen]


def test_a_group_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="no multiple of groups of 48"):
        choose(X, W, 3, 48)
