"""What metrics, layers and configuration values are called on an axis or in a table."""

from __future__ import annotations

from collections.abc import Sequence

from reproduce.config import MlpConfig, TransformerConfig, VitConfig
from reproduce.specs.schema import Axis

_LABELS = {
    "kurtosis": "kurtosis",
    "kurtosis_centred": "centred kurtosis",
    "mmr_mean": "max-median ratio (mean)",
    "mmr_median": "max-median ratio (median)",
    "mmr_max": "max-median ratio (max)",
    "input_correlation_mean": "input correlation (mean)",
    "input_correlation_rms": "input correlation (RMS)",
    "feature_correlation_rms": "feature correlation (RMS)",
    "activation_rms": "activation RMS",
    "attention_entropy": "attention entropy (nats)",
    "eq5_residual": "residual of Eq (5)",
    "train_loss": "train loss",
    "train_accuracy": "train accuracy",
    "eval_loss": "eval loss",
    "eval_ppl": "eval perplexity",
    "test_accuracy": "test accuracy",
    "grad_norm": "gradient norm",
    "lr": "learning rate",
}
_ORDERS = ("linear", "quadratic", "cubic", "quartic")


def metric_label(metric: str) -> str:
    """`metric` or a sum of metrics in words."""
    names = metric.split(" + ")
    parts = [name.partition("_update_") for name in names]
    moments = {moment for moment, _, order in parts if order in _ORDERS}
    if len(moments) == 1 and all(order in _ORDERS for _, _, order in parts):
        return f"{moments.pop()} update, {' + '.join(order for _, _, order in parts)}"
    return " + ".join(_LABELS.get(name, name.replace("_", " ")) for name in names)


def axis_label(axis: Axis) -> str:
    """Label of an axis; one that shows kurtosis in the variance form always says that one is subtracted."""
    label = axis.label or f"{'cumulative ' if axis.cumulative else ''}{metric_label(axis.metric)}"
    if axis.form == "variance" and "− 1" not in label and "- 1" not in label:
        label = f"{label} − 1" if axis.label is None else f"{label} (minus 1)"
    return label


def common_label(labels: Sequence[str]) -> tuple[str, list[str]]:
    """What labels such as `m4 update, cubic` and `m4 update, quartic` share, and what is left of each."""
    if len(set(labels)) == 1:
        return labels[0], list(labels)
    heads, tails = zip(*(label.partition(", ")[::2] for label in labels), strict=True)
    return (heads[0], list(tails)) if len(set(heads)) == 1 and all(tails) else ("value", list(labels))


def layer_label(layer: str) -> str:
    """Name of a stream layer in a legend or panel title."""
    words = {"unembed": "unembedding", "mean": "mean over blocks", "": ""}
    return words.get(layer, f"layer {layer}")


def block_name(model: TransformerConfig | MlpConfig | VitConfig) -> str | None:
    """What kind of block a model has, as `theme.BLOCK_COLOURS` calls it; None for any other arrangement of norms."""
    if isinstance(model, MlpConfig):
        return None
    block = model.block
    before = {block.pre_qk, block.pre_v, block.pre_mlp}
    regulated = block.post_qk != "none" or block.tanh_cap is not None
    if block.post_norm != "none":
        return f"post-{block.post_norm}"
    if before == {"none"}:
        return "op" if regulated else "naive"
    return f"pre-{before.pop()}" if len(before) == 1 and not regulated else None


def value_label(value: object) -> str:
    """A configuration or published value as a table shows it."""
    match value:
        case None | "none":
            return "–"
        case bool():
            return "yes" if value else "no"
        case "ln" | "rms" | "srms":
            return str(value).upper()
        case float():
            return f"{value:g}"
        case _:
            return str(value)
