"""Memory and disk that a run needs, estimated from its configuration alone.

Weights, gradients and optimiser state are counted exactly (float32, see `reproduce.models.size`). Activations are
what automatic differentiation keeps of one micro-batch, tensor by tensor, and come within a third of what torch
keeps. The size of a trace is the number of its values times what one takes on the disk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from reproduce.cadence import TRAIN_RECORDS, evaluation_steps, moment_steps, probe_steps
from reproduce.config import ImageData, MlpConfig, Norm, RunConfig, TextData, TransformerConfig
from reproduce.metrics.table import ATTENTION_METRICS, STREAM_METRICS, UPDATE_METRICS
from reproduce.models.size import CHANNELS, logit_rows, parameter_shapes, positions
from reproduce.optim.records import OPTIMIZERS

FLOAT = 4
"""Bytes of a float32."""
PROCESS_BYTES = 400_000_000
"""Memory of a process that has loaded torch and nothing else."""
_NORM_STREAMS: dict[Norm, int] = {"none": 0, "ln": 1, "srms": 1, "rms": 1}
"""Streams that a norm keeps for its backward pass, beside what enters the next matrix."""
_STORED_IMAGES = {"cifar10": 60_000}
"""Images of the sources that are held in memory whole, as bytes."""
ROW_BYTES = 10
"""Bytes of one value in a sealed trace: a float64 that hardly compresses, the rest of its row does."""
LIVE_ROW_BYTES = 30
"""Bytes of one value in the live trace, as text."""


@dataclass(frozen=True)
class Footprint:
    """Bytes, by purpose."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    """Of one micro-batch."""
    data: int
    """Images that stay in memory, and what whitens them."""
    checkpoint: int
    trace: int
    """Sealed trace and moments: what remains on the disk."""
    live_trace: int
    """The same while training."""

    @property
    def memory(self) -> int:
        """What training holds at once."""
        return PROCESS_BYTES + self.weights + self.gradients + self.optimizer + self.activations + self.data

    @property
    def working_disk(self) -> int:
        """What training needs on the disk: the old checkpoint stays until the new one is whole."""
        return 2 * self.checkpoint + self.live_trace + self.trace


def footprint(config: RunConfig, micro_batch: int | None = None, device: str = "cpu") -> Footprint:
    """What the run `config` takes while it trains and after it.

    Args:
        micro_batch: examples that go forward and backward together; the whole batch if None.
        device: the type of the device, `cpu` or `cuda`.
    """
    shapes = parameter_shapes(config.model, config.data)
    weights = FLOAT * sum(math.prod(shape) for shape in shapes)
    state_size = OPTIMIZERS[config.optimizer.name].state_size
    optimizer = FLOAT * sum(state_size(shape, config.optimizer) for shape in shapes)
    values, moments = _trace_values(config)
    return Footprint(
        weights=weights,
        gradients=weights,
        optimizer=optimizer,
        activations=activation_bytes(config, min(micro_batch or config.batch_size, config.batch_size), device),
        data=data_bytes(config),
        checkpoint=weights + optimizer,
        trace=ROW_BYTES * values + FLOAT * moments,
        live_trace=LIVE_ROW_BYTES * values + 5 * FLOAT * moments,
    )


def data_bytes(config: RunConfig) -> int:
    """Bytes of the images that lie on the device, of the whitening matrix, and of what is whitened once."""
    data = config.data
    if not isinstance(data, ImageData):
        return 0
    values = CHANNELS * data.side**2
    whitening = FLOAT * (values**2 + config.eval.batches * config.batch_size * values) if data.whiten else 0
    return _STORED_IMAGES.get(data.source, 0) * values + FLOAT * config.probe.batch_size * values + whitening


def activation_bytes(config: RunConfig, examples: int, device: str = "cpu") -> int:
    """Bytes that automatic differentiation holds between the forward and the backward pass of `examples`.

    Those of every block and of the model's ends, the logits that are computed at a time, and in mixed precision a copy
    of every weight in the products' type.
    """
    block, ends = position_bytes(config)
    kept = examples * positions(config) * (config.model.layers * block + ends)
    return weight_copies(config) + kept + logits_bytes(config, examples, device)


def recomputed_bytes(config: RunConfig, examples: int, device: str = "cpu") -> int:
    """The same with activation checkpointing: each block's input, and all of one block at a time."""
    block, ends = position_bytes(config)
    kept = examples * positions(config) * (config.model.layers * FLOAT * config.model.width + block + ends)
    return weight_copies(config) + kept + logits_bytes(config, examples, device)


def logits_bytes(config: RunConfig, examples: int, device: str = "cpu") -> int:
    """Bytes of the logits of one chunk, in float32 and beside that in the products' type; nothing on images."""
    if not isinstance(config.data, TextData):
        return 0
    vocab = config.data.vocab_size
    beside = 0 if config.precision == "fp32" else product_bytes(config)
    return min(logit_rows(vocab, device), examples * positions(config)) * vocab * (FLOAT + beside)


def product_bytes(config: RunConfig) -> int:
    """Bytes of a number in a matrix product."""
    return FLOAT if config.precision == "fp32" else FLOAT // 2


def weight_copies(config: RunConfig) -> int:
    """What autocast rounds the weights to, kept for the backward pass; nothing in float32."""
    if config.precision == "fp32":
        return 0
    return product_bytes(config) * sum(math.prod(shape) for shape in parameter_shapes(config.model, config.data))


def position_bytes(config: RunConfig) -> tuple[int, int]:
    """Bytes kept per position in one block, and at the ends of the model.

    In a block: the inputs of the matrices and q, k, v in the products' type; the MLP's hidden layer, twice where the
    activation needs its input back; per head one number of attention, or three rows of it where its logits are capped;
    and per norm one stream in float32. At the end the unembedding's input, in float32 and in the products' type, and
    its gradient; on images, what enters the model, and the last matrix of an MLP.
    """
    model, n = config.model, positions(config)
    half, product = config.precision != "fp32", product_bytes(config)
    d = model.width
    if isinstance(model, MlpConfig):
        assert isinstance(config.data, ImageData)
        inputs = CHANNELS * config.data.side**2
        return d * (2 * product + _NORM_STREAMS[model.norm] * FLOAT), inputs * product + d * product
    block = model.block
    mlp_width = model.mlp_width if isinstance(model, TransformerConfig) else round(d * model.mlp_ratio)
    hidden = 1 if isinstance(model, TransformerConfig) and model.activation == "relu" else 2
    places = (block.pre_qk, block.pre_mlp, block.post_qk, block.post_qk, block.post_norm, block.post_norm)
    streams = sum(_NORM_STREAMS[norm] for norm in places) + (2 if block.gains != "fixed" else 0)
    attention = model.heads * (n * (2 * FLOAT + (product if half else 0)) if block.tanh_cap else FLOAT)
    per_block = (8 if half else 6) * d * product + hidden * mlp_width * product + attention + streams * d * FLOAT
    if isinstance(config.data, TextData):
        return per_block, d * (2 * FLOAT + product)
    return per_block, CHANNELS * config.data.side**2 * product // n


def measuring_bytes(config: RunConfig, examples: int) -> int:
    """Bytes of a probe's pass through one block, and of the metrics of its stream."""
    model, n = config.model, positions(config)
    attention = 0 if isinstance(model, MlpConfig) else 4 * FLOAT * model.heads * n
    stream = (2 * 2 * FLOAT + 4 * FLOAT) * model.width
    return examples * n * (attention + stream) + 2 * 2 * FLOAT * model.width**2  # a Gram matrix in float64, twice


def measurement_footprint(config: RunConfig, examples: int) -> Footprint:
    """What a measurement of a trained model takes: its weights, one pass through a block, and a trace of one step.

    Args:
        config: the training that the model comes from.
        examples: that the metrics are taken of.
    """
    weights = FLOAT * sum(math.prod(shape) for shape in parameter_shapes(config.model, config.data))
    values, moments = _probe_values(config), (config.model.layers + 1) * config.model.width
    return Footprint(
        weights=weights,
        gradients=0,
        optimizer=0,
        activations=measuring_bytes(config, examples),
        data=data_bytes(config),
        checkpoint=0,
        trace=ROW_BYTES * values + FLOAT * moments,
        live_trace=LIVE_ROW_BYTES * values + 5 * FLOAT * moments,
    )


def _probe_values(config: RunConfig) -> int:
    """Values that one probe records."""
    layers = config.model.layers
    entropies = 0 if isinstance(config.model, MlpConfig) else len(ATTENTION_METRICS) * layers
    return len(STREAM_METRICS) * (layers + 1) + entropies


def _trace_values(config: RunConfig) -> tuple[int, int]:
    """Values of the trace, and numbers among the second moments."""
    layers, last = config.model.layers, config.last_step
    probes, evaluations = probe_steps(last, config.probe.every), evaluation_steps(last, config.eval.every)
    accuracy = int(isinstance(config.data, ImageData))
    train = (3 + accuracy) * min(last, TRAIN_RECORDS)
    updates = len(UPDATE_METRICS) * last if config.probe.moment_updates_layer is not None else 0
    streams = len(probes) * _probe_values(config)
    moments = len(moment_steps(last, config.probe.every)) * (layers + 1) * config.model.width
    return train + updates + streams + (1 + accuracy) * len(evaluations), moments
