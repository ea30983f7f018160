"""How big a model is and what its training costs, from its configuration alone: no torch, no allocation.

Everything follows from `parameter_shapes`, which lists the shape of every trained tensor as the modules of this
package create it. A FLOP is one multiplication or one addition.

    training      6 per weight of a matrix product and position (2 forward, 4 backward)
                  + 12 L n d per position for Q K^T and A V over all n positions, masked ones included
    embeddings, norms, residual sums, softmax and the optimiser's elementwise work count nothing

Symbols: L layers, d width, h width of a head, f hidden width of the MLP, n positions of an example.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from reproduce.config import (
    BlockConfig,
    DataConfig,
    ImageData,
    MlpConfig,
    ModelConfig,
    Norm,
    RunConfig,
    TextData,
    TransformerConfig,
    VitConfig,
)
from reproduce.optim.records import OPTIMIZERS, Shape

CHANNELS = 3
"""Colours of an image."""


_CHUNK_LOGITS = {"cpu": 2**21, "cuda": 2**26}
"""Number of logits that training holds at a time, by the type of the device.

A processor's cache may hold 8 MB of them in float32. A GPU has no cache of that kind, and is busy with 256 MB.
"""
_CHUNK_ROWS = 256
"""Least number of rows in a chunk. With fewer, a product reads the unembedding more often than it computes with it."""


def logit_rows(vocab_size: int, device: str = "cpu") -> int:
    """Number of positions whose logits training computes at a time on a device of that type."""
    return max(_CHUNK_ROWS, _CHUNK_LOGITS.get(device, _CHUNK_LOGITS["cpu"]) // vocab_size)


def parameters(config: RunConfig) -> int:
    """Number of trained parameters; a tied embedding counts once."""
    return sum(math.prod(shape) for shape in parameter_shapes(config.model, config.data))


def parameter_shapes(model: ModelConfig, data: DataConfig) -> list[Shape]:
    """The shape of every trained parameter."""
    if isinstance(model, TransformerConfig):
        assert isinstance(data, TextData)
        return list(_transformer(model, data.vocab_size, data.seq_len))
    assert isinstance(data, ImageData)
    return list(_mlp(model, data) if isinstance(model, MlpConfig) else _vit(model, data))


def block_matrices(model: ModelConfig) -> int:
    """Numbers in the linear layers of one block, biases included: what FSDP2 gathers together."""
    d = model.width
    if isinstance(model, MlpConfig):
        return 2 * d**2
    f = model.mlp_width if isinstance(model, TransformerConfig) else round(d * model.mlp_ratio)
    biases = model.biases if isinstance(model, TransformerConfig) else "all"
    return 4 * d**2 + 2 * d * f + {"none": 0, "qk": 2 * d, "all": 5 * d + f}[biases]


def positions(config: RunConfig) -> int:
    """Positions that the model processes in one example: tokens, patches with the class token, or 1."""
    if isinstance(config.data, TextData):
        return config.data.seq_len
    return (config.data.side // config.model.patch) ** 2 + 1 if isinstance(config.model, VitConfig) else 1


def tokens(config: RunConfig) -> int:
    """Positions that the run trains on until it stops, repetitions included."""
    return config.last_step * config.batch_size * positions(config)


def flops(config: RunConfig) -> float:
    """Training FLOPs of the whole run, until it stops."""
    return config.last_step * step_flops(config)


def step_flops(config: RunConfig) -> float:
    """FLOPs of one optimiser step: forward and backward, without the optimiser."""
    return 3 * config.batch_size * forward_flops(config)


def forward_flops(config: RunConfig) -> float:
    """FLOPs of the forward pass of one example."""
    model, data = config.model, config.data
    n, d = positions(config), model.width
    if isinstance(model, MlpConfig):
        assert isinstance(data, ImageData)
        return 2.0 * (_pixels(data) * d + 2 * model.layers * d**2 + d * data.classes)
    mlp_width = model.mlp_width if isinstance(model, TransformerConfig) else round(d * model.mlp_ratio)
    blocks = model.layers * n * (2 * (4 * d**2 + 2 * d * mlp_width) + 4 * n * d)
    if isinstance(model, TransformerConfig):
        assert isinstance(data, TextData)
        return float(blocks + 2 * n * d * data.vocab_size)
    assert isinstance(data, ImageData)
    return float(blocks + 2 * (n - 1) * CHANNELS * model.patch**2 * d + 2 * d * data.classes)


def input_flops(config: RunConfig) -> float:
    """FLOPs that turn the images of one step into inputs: where they are whitened, a product with all their axes."""
    data = config.data
    whitened = isinstance(data, ImageData) and data.whiten
    return 2.0 * config.batch_size * _pixels(data) ** 2 if whitened else 0.0


def preconditioner_flops(config: RunConfig) -> float:
    """FLOPs a step of the optimiser's own matrix work, which the elementwise ones have none of."""
    record = OPTIMIZERS[config.optimizer.name]
    return record.step_flops(parameter_shapes(config.model, config.data), config.optimizer)


# ---------------------------------------------------------------------------------------------------
# Shapes


def _norm(kind: Norm, width: int) -> Iterator[Shape]:
    """LN has gain and bias, RMS a gain, SRMS nothing."""
    yield from [(width,)] * {"ln": 2, "rms": 1, "srms": 0, "none": 0}[kind]


def _linear(inputs: int, outputs: int, bias: bool) -> Iterator[Shape]:
    yield (outputs, inputs)
    if bias:
        yield (outputs,)


def _block(block: BlockConfig, d: int, h: int, f: int, *, bias_qk: bool, bias: bool) -> Iterator[Shape]:
    yield from _norm(block.pre_qk, d)
    if block.pre_v != block.pre_qk:  # otherwise one norm serves both
        yield from _norm(block.pre_v, d)
    for has_bias in (bias_qk, bias_qk, bias, bias):  # queries, keys, values, projection
        yield from _linear(d, d, has_bias)
    for _ in "qk":
        yield from _norm(block.post_qk, h)
    if block.gate is not None:
        yield (d // h, h)
        yield (d // h,)
    yield from _norm(block.pre_mlp, d)
    yield from _linear(d, f, bias)
    yield from _linear(f, d, bias)
    for _ in ("attention", "mlp"):
        yield from _norm(block.post_norm, d)
        if block.gains != "fixed":
            yield (d,) if block.gains == "vector" else (1,)


def _transformer(model: TransformerConfig, vocab_size: int, max_length: int) -> Iterator[Shape]:
    d = model.width
    yield (vocab_size, d)
    if not model.tied:
        yield (vocab_size, d)
    if model.positions == "learnt":
        yield (max_length, d)
    bias_qk, bias = model.biases != "none", model.biases == "all"
    for _ in range(model.layers):
        yield from _block(model.block, d, model.head_width, model.mlp_width, bias_qk=bias_qk, bias=bias)
    yield from _norm(model.block.final_norm, d)


def _vit(model: VitConfig, data: ImageData) -> Iterator[Shape]:
    """As DeiT: a convolution of patches, class token, learnt positions, biases everywhere."""
    d = model.width
    patches = (data.side // model.patch) ** 2
    yield (d, CHANNELS, model.patch, model.patch)
    yield (d,)
    yield (1, 1, d)
    yield (1, patches + 1, d)
    for _ in range(model.layers):
        mlp_width = round(d * model.mlp_ratio)
        yield from _block(model.block, d, d // model.heads, mlp_width, bias_qk=True, bias=True)
    yield from _norm(model.block.final_norm, d)
    yield from _linear(d, data.classes, True)


def _mlp(model: MlpConfig, data: ImageData) -> Iterator[Shape]:
    d = model.width
    yield from _linear(_pixels(data), d, False)
    for _ in range(model.layers):
        yield from _norm(model.norm, d)
        yield from _linear(d, d, False)
        yield from _linear(d, d, False)
    yield from _linear(d, data.classes, False)


def _pixels(data: DataConfig) -> int:
    assert isinstance(data, ImageData)
    return CHANNELS * data.side**2
