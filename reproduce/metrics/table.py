"""The one table of metrics: what each is called, where a trace holds it, and what plots and claims may do with it.

Specs, the frame, claims, plots, the planner and the tests of the probes read this table; importing it loads nothing
but the standard library. A new metric of the residual stream takes three edits: its function in this package, its entry
in `reproduce.metrics.stream.stream_metrics`, and one line here. A test fails where the table and what the probes
measure differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from reproduce.quantise.rows import ROWS

Split = Literal["train", "eval", "probe", "skipped", "rows"]
"""Part of a trace: single training batches, evaluations on held-out data, what a probe saw, what it saw without the
first positions of each sequence, or the ways in which a model was quantised."""

Form = Literal["eq1", "variance"]
"""How kurtosis is stated: as Eq (1) of the paper, or minus one, which is what the authors plot."""

Subject = Literal["run", "stream", "attention", "update"]
"""What has the metric: the run as a whole, the residual stream of each layer, the attention of each block, or what
one optimiser step changes in the stream of one layer."""


@dataclass(frozen=True)
class Metric:
    """One metric, as specs name it."""

    name: str
    label: str
    """Name on an axis. The orders of one moment's update share what stands before the comma."""
    subject: Subject
    split: Split | None = "probe"
    """Split of the trace that records the metric; None for a fact of a run, which no trace records."""
    recorded_as: str = ""
    """Name within that split, where it differs from `name`."""
    exp_of: str | None = None
    """The recorded metric of which this one is the exponential; it is not recorded itself."""
    product_of: tuple[tuple[str, int], ...] = ()
    """The recorded metrics, with their powers, of which this one is the product; it is not recorded itself."""
    unit: str = ""
    """Unit that an axis adds to the label."""
    forms: tuple[Form, ...] = ("eq1",)
    """The forms in which plots and claims may ask for it."""
    single_batch: bool = False
    """Whether each value is that of one training batch: plots smooth it, and claims average the end of a run."""
    of_quantisations: bool = False
    """Whether only quantisations record it (`reproduce.jobs.quantise`), and no training does."""
    of_checkpoints: bool = False
    """Whether only measurements of checkpoints record it (`reproduce.measuring.streaming`), and no training does."""

    rounding: bool = False
    """Whether each value is an error of rounding, of which a multiple says nothing."""

    @property
    def layered(self) -> bool:
        """Whether the metric has a value in each layer."""
        return self.subject != "run"

    @property
    def is_fact(self) -> bool:
        """Whether the metric is known of the run as a whole instead of being read off its trace."""
        return self.split is None

    @property
    def place(self) -> tuple[Split, str] | None:
        """Split and name under which a trace holds the metric; None for facts and for what another metric gives."""
        if self.split is None or self.exp_of is not None or self.product_of:
            return None
        return self.split, self.recorded_as or self.name


def _of_row(row: str, what: str, label: str) -> Metric:
    """What a quantisation records of one row of `reproduce.quantise.rows`: `quarot_ppl` is `quarot/ppl` there."""
    return Metric(f"{row}_{what}", label, "run", "rows", f"{row}/{what}", of_quantisations=True)


_BOTH_FORMS: tuple[Form, ...] = ("eq1", "variance")

_TABLE = (
    Metric("train_loss", "train loss", "run", "train", "loss", single_batch=True),
    Metric("eval_loss", "eval loss", "run", "eval", "loss"),
    Metric("eval_ppl", "eval perplexity", "run", "eval", exp_of="eval_loss"),
    Metric("train_accuracy", "train accuracy", "run", "train", "accuracy", single_batch=True),
    Metric("test_accuracy", "test accuracy", "run", "eval", "accuracy"),
    # Quantised by the published protocol (`reproduce.quantise.protocol`): mean and spread over calibration seeds.
    *(
        metric
        for bits in (8, 6, 4)
        for metric in (
            Metric(f"w{bits}a{bits}_ppl", f"W{bits}A{bits} perplexity", "run", "eval", of_quantisations=True),
            Metric(
                f"w{bits}a{bits}_ppl_std", f"W{bits}A{bits} perplexity (s.d.)", "run", "eval", of_quantisations=True
            ),
        )
    ),
    *(
        metric
        for row in ROWS.values()
        for metric in (
            _of_row(row.name, "ppl", f"perplexity, {row.label}"),
            _of_row(row.name, "weight_bits", f"bits of a weight, {row.label}"),
            _of_row(row.name, "flops", f"extra FLOPs a token, {row.label}"),
        )
    ),
    Metric("n_layers", "number of blocks", "run", None),
    Metric("failed", "fraction of seeds that failed", "run", None),
    # Each residual stream, v1 and v2 Sections 2 to 4. `stream_metrics` measures these, in this order.
    Metric("kurtosis", "kurtosis", "stream", forms=_BOTH_FORMS),
    Metric("kurtosis_centred", "centred kurtosis", "stream", forms=_BOTH_FORMS),
    Metric("mmr_mean", "max-median ratio (mean)", "stream"),
    Metric("mmr_median", "max-median ratio (median)", "stream"),
    Metric("mmr_max", "max-median ratio (max)", "stream"),
    Metric("mmr_infinite", "inputs with an infinite max-median ratio", "stream"),
    Metric("input_correlation_mean", "input correlation (mean)", "stream"),
    Metric("input_correlation_rms", "input correlation (RMS)", "stream"),
    Metric("feature_correlation_rms", "feature correlation (RMS)", "stream"),
    Metric("activation_rms", "activation RMS", "stream"),
    Metric("eq5_residual", "residual of Eq (5)", "stream", rounding=True),
    # mean_j s_j^4 of Eq (1), whose change the moment updates add up to: kurtosis x (mean_j s_j^2)^2.
    Metric("fourth_moment", "fourth moment", "stream", product_of=(("kurtosis", 1), ("activation_rms", 4))),
    # Each block's attention, v2 Eq 10.
    Metric("attention_entropy", "attention entropy", "attention", unit="nats"),
    # One optimiser step at one layer, v1 App D. `moment_updates` measures these, in this order.
    Metric("m2_update_linear", "m2 update, linear", "update"),
    Metric("m2_update_quadratic", "m2 update, quadratic", "update"),
    Metric("m4_update_linear", "m4 update, linear", "update"),
    Metric("m4_update_quadratic", "m4 update, quadratic", "update"),
    Metric("m4_update_cubic", "m4 update, cubic", "update"),
    Metric("m4_update_quartic", "m4 update, quartic", "update"),
    # The optimisation itself.
    Metric("grad_norm", "gradient norm", "run", "train"),
    Metric("lr", "learning rate", "run", "train"),
)

# Other conventions of kurtosis, which are measured of checkpoints alone.
_CONVENTIONS = (
    Metric("kurtosis_code", "kurtosis of the authors' code", "stream", of_checkpoints=True),
    Metric("kurtosis_flat", "Pearson kurtosis of sequences", "stream", of_checkpoints=True),
    Metric("kurtosis_excess", "excess kurtosis of inputs", "stream", of_checkpoints=True),
)

CHECKPOINT_METRICS = (
    "kurtosis",
    "kurtosis_centred",
    *(metric.name for metric in _CONVENTIONS),
    "mmr_mean",
    "mmr_max",
    "mmr_infinite",
    "activation_rms",
    "input_correlation_mean",
)
"""What a measurement of a checkpoint records of each stream, over all positions and without the first ones."""
CORRELATION_METRICS = ("input_correlation_rms", "feature_correlation_rms")
"""What it records beside these if it is asked for, from a part of the inputs."""


def _skipped(metric: Metric) -> Metric:
    """The same metric without the first positions of each sequence."""
    return replace(
        metric,
        name=f"{metric.name}_skipped",
        label=f"{metric.label}, first positions left out",
        split="skipped",
        recorded_as=metric.name,
        of_checkpoints=True,
    )


_RECORDED = {metric.name: metric for metric in (*_TABLE, *_CONVENTIONS)}
METRICS = _RECORDED | {
    metric.name: metric
    for metric in (_skipped(_RECORDED[name]) for name in (*CHECKPOINT_METRICS, *CORRELATION_METRICS))
}
"""Every metric by name."""


def _of(subject: Subject) -> tuple[str, ...]:
    return tuple(metric.name for metric in _TABLE if metric.subject == subject and metric.place is not None)


STREAM_METRICS = _of("stream")
"""What a probe measures of the residual stream of each block and of the unembedding's input."""
ATTENTION_METRICS = _of("attention")
"""What a probe measures of the attention of each block."""
UPDATE_METRICS = _of("update")
"""What is measured at every step of the one layer whose moment updates a run follows."""


def metric_named(name: str) -> Metric:
    """The metric that specs call `name`.

    Raises:
        ValueError: there is none.
    """
    if name not in METRICS:
        raise ValueError(f"there is no metric {name}")
    return METRICS[name]


def recorded_names(name: str) -> list[str]:
    """The names under which a trace holds what the metric `name` is made of; none for a fact of a run.

    >>> recorded_names("eval_ppl"), recorded_names("fourth_moment")
    (['loss'], ['kurtosis', 'activation_rms'])
    """
    metric = metric_named(name)
    if metric.exp_of is not None:
        return recorded_names(metric.exp_of)
    if metric.product_of:
        return [recorded for factor, _ in metric.product_of for recorded in recorded_names(factor)]
    return [] if metric.place is None else [metric.place[1]]


def terms(expression: str) -> list[tuple[Literal["+", "-"], str]]:
    """The signs and names of a sum or difference of metrics; a single metric is a sum of one.

    >>> terms("m2_update_linear + m2_update_quadratic - kurtosis")
    [('+', 'm2_update_linear'), ('+', 'm2_update_quadratic'), ('-', 'kurtosis')]
    """
    first, *rest = re.split(r"\s+([+-])\s+", expression.strip())
    signed: list[tuple[Literal["+", "-"], str]] = [("+", first)]
    for sign, name in zip(rest[::2], rest[1::2], strict=True):
        signed.append(("+" if sign == "+" else "-", name))
    return signed


def layered(expression: str) -> bool:
    """Whether a metric, or a sum or difference of metrics, has a value in each layer.

    Raises:
        ValueError: there is no such metric.
    """
    return any(metric_named(name).layered for _, name in terms(expression))
