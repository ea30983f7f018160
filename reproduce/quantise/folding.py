"""What can be folded into the weights of a decoder, exactly, and what has to be done to activations as they pass.

Methods rewrite a model before they quantise it. Each rewriting here leaves the function in full precision as it is.

    gains         W (g x + b) = (W g) x + W b: the gain and bias of a norm go into the layers that read it
    smoothing     x / s goes into the gain and bias of the norm before a layer, into the rows of values before the
                  output projection (attention mixes tokens and no channels), and into the rows of the MLP's first
                  layer before its second, if the activation function is positively homogeneous (ReLU, leaky ReLU)
    rotation      x Q of the stream goes into all that writes it and all that reads it, if only norms without a gain
                  stand between: RMSNorm(x Q) = RMSNorm(x) Q

An OP block has no norm between the stream and its linear layers, so that smoothing has nothing to go into there. The
stream cannot take it either, since several layers read it. An SRMSNorm has no gain. In both cases inputs are divided as
they pass. A Post-Norm with a gain stands in the stream itself, which then does not commute with a rotation.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from reproduce.models.transformer import NORM_EPS, HeadGate, LayerNorm
from reproduce.quantise.decoder import Decoder, PlacedAttention, PlacedFeedForward

Home = Literal["norm", "rows", "online"]
"""Where the smoothing of a layer's inputs goes: into the norm before it, into the rows of the linear layer before it,
or nowhere."""


class NotExact(Exception):
    """A rewriting would change the function of the model, for the reason that the message gives."""


# ---------------------------------------------------------------------------------------------------
# Gains of norms


def fold_gains(decoder: Decoder) -> None:
    """Fold the norms before queries, keys, values, gates and MLPs, in place. The function stays as it is.

    Norms of queries and keys (QK-Norm) and the final norm, whose reader is the head, are left as they are.
    """
    for module in decoder.modules():
        if isinstance(module, PlacedAttention):
            reads_qk = [module.query, module.key]
            if module.norm_v is None:
                reads_qk.append(module.value)
            else:
                _fold(module.norm_v, [module.value])
            _fold(module.norm_qk, reads_qk, gate=module.gate)
        elif isinstance(module, PlacedFeedForward):
            _fold(module.norm, [module.up], module.input_scale)


def _fold(norm: Any, readers: list[nn.Linear], scale: float = 1.0, gate: HeadGate | None = None) -> None:
    """Fold one norm into the linear layers and the gates that read it; `scale` multiplies the norm's output first."""
    gain, bias = getattr(norm, "gain", None), getattr(norm, "bias", None)
    if gain is None:
        return
    if bias is not None:
        for linear in readers:
            before: Any = 0.0 if linear.bias is None else linear.bias.data
            linear.bias = nn.Parameter(before + scale * (linear.weight.data @ bias.data), requires_grad=False)
        if gate is not None:  # each head reads its slice of the norm's output: (H, K)
            gate.bias.data = gate.bias.data + (gate.weight.data * bias.data.view(gate.weight.shape)).sum(1)
        bias.data = torch.zeros_like(bias.data)
    for linear in readers:
        linear.weight.data = linear.weight.data * gain.data
    if gate is not None:
        gate.weight.data = gate.weight.data * gain.data.view(gate.weight.shape)
    gain.data = torch.ones_like(gain.data)


# ---------------------------------------------------------------------------------------------------
# Smoothing


def smoothing_home(decoder: Decoder, name: str) -> Home:
    """Where the division of the inputs of the linear layer `name` by one number for each channel can go."""
    path, _, layer = name.rpartition(".")
    module = decoder.get_submodule(path)
    if isinstance(module, PlacedFeedForward):
        if layer == "up":
            return "norm" if _has_gain(module.norm) else "online"
        return "rows" if module.activation != "gelu" else "online"
    assert isinstance(module, PlacedAttention)
    if layer == "project":
        return "rows"
    own = module.norm_v if layer == "value" and module.norm_v is not None else module.norm_qk
    return "norm" if _has_gain(own) else "online"


def fold_smoothing(decoder: Decoder, name: str, scales: Tensor) -> None:
    """Multiply the columns of a layer by `scales` (k,), and divide what comes before it, in place.

    For queries, keys and values that read one norm, `name` is any of them, and all are multiplied, gates too.

    Raises:
        NotExact: there is nothing before the layer that the division could go into.
    """
    home = smoothing_home(decoder, name)
    if home == "online":
        raise NotExact(f"nothing before {name} takes one factor for each channel")
    path, _, layer = name.rpartition(".")
    module: Any = decoder.get_submodule(path)
    if home == "rows":
        before = module.value if layer == "project" else module.up
        before.weight.data = before.weight.data / scales[:, None]
        if before.bias is not None:
            before.bias.data = before.bias.data / scales
        readers, gate = [module.project if layer == "project" else module.down], None
    else:
        norm, readers, gate = _reads_a_norm(module, layer)
        norm.gain.data = norm.gain.data / scales
        if getattr(norm, "bias", None) is not None:
            norm.bias.data = norm.bias.data / scales
    for linear in readers:
        linear.weight.data = linear.weight.data * scales
    if gate is not None:
        gate.weight.data = gate.weight.data * scales.view(gate.weight.shape)


def _reads_a_norm(module: Any, layer: str) -> tuple[Any, list[nn.Linear], HeadGate | None]:
    """The norm before a layer, with all that reads it."""
    if isinstance(module, PlacedFeedForward):
        return module.norm, [module.up], None
    if layer == "value" and module.norm_v is not None:
        return module.norm_v, [module.value], None
    values = [module.value] if module.norm_v is None else []
    return module.norm_qk, [module.query, module.key, *values], module.gate


def _has_gain(norm: nn.Module | None) -> bool:
    return getattr(norm, "gain", None) is not None


# ---------------------------------------------------------------------------------------------------
# Rotation of the stream


def rotation_obstacle(decoder: Decoder) -> str | None:
    """Why a rotation of the stream cannot be folded into the weights around it; None if it can."""
    block = decoder.config.block
    if block.post_norm in ("ln", "rms"):
        return "a norm with a gain stands in its stream"
    if block.gate is not None:
        return "its gates read slices of the stream, one for each head"
    centred = [isinstance(norm, LayerNorm) for norm in _norms_of_the_stream(decoder)]
    if any(centred) and not all(centred):
        return "LayerNorms and other layers read one stream, whose mean only the first take out"
    return None


def _norms_of_the_stream(decoder: Decoder) -> list[nn.Module]:
    """What the layers that read the stream see it through: a norm, or the identity where there is none."""
    found, blocks = [decoder.final_norm], cast("Any", decoder.blocks)
    for block in blocks:
        found += [block.attention.norm_qk, block.mlp.norm]
        found += [] if block.attention.norm_v is None else [block.attention.norm_v]
    return found


def rotate_stream(decoder: Decoder, matrix: Tensor) -> None:
    """Rotate the residual stream by an orthogonal matrix Q (D, D), in place: all of it is folded into the weights.

    Gains of norms go into their readers first, and vectors of residual gains into the rows of the branch. A LayerNorm
    subtracts the mean of its input, so that every layer that writes the stream has its mean over the width taken out,
    after which an RMSNorm does the same.

    Raises:
        NotExact: the function would not stay as it is (`rotation_obstacle`).
    """
    obstacle = rotation_obstacle(decoder)
    if obstacle is not None:
        raise NotExact(obstacle)
    q = matrix.double()
    fold_gains(decoder)
    _fold(decoder.final_norm, [decoder.unembedding])
    writers: list[nn.Linear] = []
    readers = [decoder.unembedding]
    blocks = cast("Any", decoder.blocks)
    for block in blocks:
        for gain, last in (("attn_gain", block.attention.project), ("mlp_gain", block.mlp.down)):
            _fold_residual_gain(block, gain, last)
            writers.append(last)
        readers += [block.attention.query, block.attention.key, block.attention.value, block.mlp.up]
    tables = [decoder.token_embedding] + ([] if decoder.position_embedding is None else [decoder.position_embedding])
    if _replace_layer_norms(decoder):
        for linear in writers:
            linear.weight.data = linear.weight.data - linear.weight.data.mean(0, keepdim=True)
            if linear.bias is not None:
                linear.bias.data = linear.bias.data - linear.bias.data.mean()
        for table in tables:
            table.weight.data = table.weight.data - table.weight.data.mean(1, keepdim=True)
    for table in tables:
        table.weight.data = (table.weight.data.double() @ q).float()
    for linear in readers:
        linear.weight.data = (linear.weight.data.double() @ q).float()
    for linear in writers:
        linear.weight.data = (q.T @ linear.weight.data.double()).float()
        if linear.bias is not None:
            linear.bias.data = (linear.bias.data.double() @ q).float()


def _fold_residual_gain(block: Any, name: str, last: nn.Linear) -> None:
    """Fold a vector of residual gains into the rows of the last layer of its branch. A scalar commutes as it is."""
    gain = getattr(block, name)
    if isinstance(gain, Tensor) and gain.numel() > 1:
        last.weight.data = last.weight.data * gain.data[:, None]
        if last.bias is not None:
            last.bias.data = last.bias.data * gain.data
        gain.data = torch.ones_like(gain.data)


class _CentredNorm(nn.Module):
    """LayerNorm without gain and bias, for inputs whose mean over the width is 0: x / sqrt(mean x^2 + eps)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPS)


def _replace_layer_norms(decoder: Decoder) -> bool:
    """Put norms that subtract no mean in the place of the LayerNorms that read the stream; whether there was one."""
    if not any(isinstance(norm, LayerNorm) for norm in _norms_of_the_stream(decoder)):
        return False
    places, blocks = [(cast("Any", decoder), "final_norm")], cast("Any", decoder.blocks)
    for block in blocks:
        places += [(block.attention, "norm_qk"), (block.attention, "norm_v"), (block.mlp, "norm")]
    for owner, name in places:
        if getattr(owner, name) is not None:
            setattr(owner, name, _CentredNorm())
    return True
