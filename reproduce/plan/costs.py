"""What one job costs: a training, what starts from a model that was trained here, or a checkpoint from elsewhere.

A checkpoint from elsewhere is known by the facts that its setting gives (`reproduce.specs.schema.ModelSize`). Its
forward pass takes two FLOPs for each token and parameter, and its weights are held in float32 whatever they are stored
in.
"""

from __future__ import annotations

from dataclasses import dataclass

from reproduce.config import RunConfig
from reproduce.environment import environment
from reproduce.job_config import CheckpointParent, MeasureConfig, QuantiseConfig, TextSample
from reproduce.machine import Machine
from reproduce.metrics.table import CHECKPOINT_METRICS, CORRELATION_METRICS
from reproduce.models.size import flops, forward_flops, parameters, positions, tokens
from reproduce.plan.calibration import Rate
from reproduce.plan.devices import speed_of
from reproduce.plan.footprint import (
    FLOAT,
    LIVE_ROW_BYTES,
    ROW_BYTES,
    Footprint,
    footprint,
    measurement_footprint,
)
from reproduce.plan.memory import arrange
from reproduce.quantise.rows import OWN_MODELS, ROWS
from reproduce.specs.runs import ResolvedRun
from reproduce.specs.schema import ModelSize

PASS_TOKENS = 2048
"""Tokens in one forward pass of a checkpoint (`reproduce.checkpoints.measuring.BATCH_TOKENS`, which needs torch)."""


@dataclass(frozen=True)
class Cost:
    """What a job costs that is not done yet."""

    params: int
    tokens: int
    flops: float
    seconds: float
    """Without the start of its process."""
    footprint: Footprint
    download: int = 0
    """Bytes that are fetched from the Hugging Face hub, or from the package index, unless they are there."""


def cost_of(run: ResolvedRun, rate: Rate, machine: Machine, devices: int, step_seconds: float | None) -> Cost:
    """The cost of a job.

    Args:
        step_seconds: what a step of such a training took here, if that is known.
    """
    training = run.training
    if training is None:
        assert run.checkpoint is not None, "a plan is of jobs that figures ask for"
        return _of_checkpoint(run, run.checkpoint.size, rate)
    params = parameters(training)
    if not isinstance(run.config, RunConfig):
        return _of_trained(run.config, training, params, rate)
    seconds = training.last_step * step_seconds if step_seconds else rate.run_seconds(training) / speed_of(devices)
    needs = footprint(training, micro_batch(training, machine, devices), machine.device)
    return Cost(params, tokens(training), flops(training), seconds, needs)


def _of_trained(config: MeasureConfig | QuantiseConfig, training: RunConfig, params: int, rate: Rate) -> Cost:
    """What starts from a model that was trained here."""
    examples: float = config.examples
    at_once = config.examples
    if config.text is not None:  # in sequences of another length than those of the training
        examples *= config.text.seq_len / positions(training)
    if isinstance(config, QuantiseConfig):
        examples, at_once = round(examples * quantisation_passes(config)), min(training.batch_size, config.examples)
    return Cost(
        params,
        round(examples * positions(training)),
        examples * forward_flops(training),
        rate.forward_seconds(training, examples),
        measurement_footprint(training, at_once),
    )


def _of_checkpoint(run: ResolvedRun, size: ModelSize | None, rate: Rate) -> Cost:
    """A measurement or a quantisation of a checkpoint from elsewhere."""
    config, text = run.config, run.data
    assert not isinstance(config, RunConfig), "no training starts from a checkpoint"
    assert isinstance(text, TextSample), "a checkpoint has a text"
    assert size is not None, "a model from elsewhere has a size"
    params, layers, width = size.parameters, size.layers, size.width
    passes = quantisation_passes(config) if isinstance(config, QuantiseConfig) else 1.0
    count = round(passes * config.examples * text.seq_len)
    work = 2.0 * params * count
    # A training step of as many tokens takes three times the work of a forward pass.
    one_pass = rate.step_seconds(3 * 2.0 * params * PASS_TOKENS) / 3
    if isinstance(config, QuantiseConfig):
        values, moments = layers + 1 + 4 * len(config.rows), 0
    else:
        metrics = len(CHECKPOINT_METRICS) + (len(CORRELATION_METRICS) if config.correlations else 0)
        values, moments = 2 * metrics * (layers + 1), (layers + 1) * width
    needs = Footprint(
        # A quantisation has the model as it was opened, a copy with plain linear layers, and one that a row rewrites.
        weights=FLOAT * params * (3 if isinstance(config, QuantiseConfig) else 1),
        gradients=0,
        optimizer=0,
        # Ten streams in float32 or their like are alive in a block, and the metrics take four of them in float64.
        activations=18 * FLOAT * PASS_TOKENS * width,
        data=0,
        checkpoint=0,
        trace=ROW_BYTES * values + FLOAT * moments,
        live_trace=LIVE_ROW_BYTES * values + 5 * FLOAT * moments,
    )
    return Cost(params, count, work, one_pass * count / PASS_TOKENS, needs, download=size.stored_bytes)


def quantisation_passes(config: QuantiseConfig) -> float:
    """Passes over the evaluation text that a quantisation takes: one in full precision, and those of rows and widths.

    A width is evaluated with each calibration seed, at the price of the row `published`. Tensors that are quantised
    alone take a pass over two sequences each. Rows of this package's transformers alone cost nothing elsewhere.
    """
    elsewhere = isinstance(config.parent, CheckpointParent)
    applying = [ROWS[name] for name in config.rows if not (elsewhere and ROWS[name].family in OWN_MODELS)]
    rows = sum(row.passes for row in applying)
    widths = len(config.widths) * config.seeds * ROWS["published"].passes
    return 1 + rows + widths + config.tensors * 2 / config.examples


def micro_batch(config: RunConfig, machine: Machine, devices: int = 1) -> int:
    """Examples that a worker takes forward and backward together on each of `devices`.

    OFE_MICRO_BATCH says; else an accelerator takes what fits into its memory, and a CPU its share whole.

    Raises:
        OfeError: OFE_MICRO_BATCH is not a number of examples.
    """
    given, memory = environment().micro_batch, machine.gpu_memory_bytes
    if given is not None:
        return given
    known = machine.device == "cuda" and memory is not None
    fitting = arrange(config, devices, memory).micro_batch if known else None
    return fitting or max(1, config.batch_size // devices)
