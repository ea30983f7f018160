"""AdaDim: the two dimensions are transposes, the choice is the better one, and a block judges what reads the stream."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from reproduce.models.variants import VARIANTS
from reproduce.quantise.decoder import decoder_of
from reproduce.quantise.linears import calibrate
from reproduce.quantise.methods.adadim import DIMENSIONS, choose, per, quantise
from reproduce.quantise.quantisers import Scheme
from tests.quantise.layers import relative_error
from tests.quantise.test_decoder import TOKENS, model

X = torch.randn(512, 64, generator=torch.Generator().manual_seed(0))
W = 0.02 * torch.randn(64, 64, generator=torch.Generator().manual_seed(1))
INT3 = Scheme(3, "asymmetric", "group", size=16)


def test_groups_of_outputs_are_groups_of_inputs_of_the_transpose() -> None:
    assert torch.equal(per(W, "ic", INT3), per(W.T.contiguous(), "oc", INT3).T)
    assert not torch.equal(per(W, "ic", INT3), per(W, "oc", INT3))


@pytest.mark.parametrize("case", ["outlier channel", "large outputs"])
def test_the_choice_follows_where_the_outliers_are(case: str) -> None:
    """An outlier in the inputs, whose weights are small, is best kept in groups of its own; large rows as well."""
    x, w = X.clone(), W.clone()
    if case == "outlier channel":
        x[:, 5] *= 30
        w[:, 5] /= 10
    else:
        w[7::16] *= 6  # one in each group of outputs
    errors = {dim: relative_error(x, w, lambda z, d=dim: z @ per(w, d, INT3).T) for dim in DIMENSIONS}
    chosen, quantised = choose(lambda tried: x @ tried.T, w, INT3)
    assert chosen == ("ic" if case == "outlier channel" else "oc")
    assert errors[chosen] == min(errors.values())
    assert relative_error(x, w, lambda z: z @ quantised.T) == errors[chosen]


def test_a_group_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="no multiple of groups of 48"):
        per(W, "oc", Scheme(3, "asymmetric", "group", size=48))


GROUPS = Scheme(3, "asymmetric", "group", size=8)


def test_a_block_judges_what_reads_the_stream_and_a_layer_judges_itself() -> None:
    """Each choice by hand: the attention block for queries, the MLP for its first layer, the layer for the others."""
    decoder = decoder_of(model({"block": VARIANTS["pre-ln"]}))
    inputs = calibrate(decoder, [TOKENS])
    made, chosen = quantise(decoder, inputs, lambda one: one(TOKENS), GROUPS)
    assert list(chosen) == list(inputs)
    assert set(chosen.values()) == set(DIMENSIONS), "a case in which both dimensions win"
    streams: dict[str, Tensor] = {}
    for name in ("blocks.1.attention", "blocks.1.mlp"):
        decoder.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: streams.setdefault(name, args[0])
        )
    decoder(TOKENS)
    by_hand = copy.deepcopy(decoder)
    for name in [name for name in inputs if name.startswith("blocks.1.")]:
        path, _, layer = name.rpartition(".")
        linear, rows = by_hand.get_submodule(name), inputs[name].rows
        assert isinstance(linear, nn.Linear)
        weight, outputs = linear.weight.data.clone(), {}
        for dimension in (None, *DIMENSIONS):
            linear.weight.data = weight if dimension is None else per(weight, dimension, GROUPS)
            whole = layer in ("query", "key", "value", "up")
            outputs[dimension] = by_hand.get_submodule(path)(streams[path]) if whole else rows @ linear.weight.data.T
        errors = {d: float((outputs[d] - outputs[None]).square().mean()) for d in DIMENSIONS}
        assert chosen[name] == min(DIMENSIONS, key=lambda d: errors[d]), name
        linear.weight.data = per(weight, chosen[name], GROUPS)  # stays quantised for the layers after it
        assert torch.equal(made.get_parameter(f"{name}.weight"), linear.weight.data)
