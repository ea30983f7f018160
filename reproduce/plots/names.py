"""What metrics, layers and configuration values are called on an axis or in a table."""

from __future__ import annotations

from collections.abc import Sequence

from reproduce.config import MlpConfig, TransformerConfig, VitConfig
from reproduce.metrics.table import metric_named, terms
from reproduce.specs.schema import Axis


def metric_label(expression: str) -> str:
    """A metric, or a sum or difference of metrics, in words.

    Metrics whose labels share what stands before the comma name it once: `m4 update, cubic + quartic`.

    Raises:
        ValueError: there is no such metric.
    """
    signed = terms(expression)
    labels = [_label(name) for _, name in signed]
    head, parts = common_label(labels)
    text = parts[0] if parts == labels else f"{head}, {parts[0]}"
    for (sign, _), part in zip(signed[1:], parts[1:], strict=True):
        text += f" {'−' if sign == '-' else '+'} {part}"
    return text


def _label(name: str) -> str:
    metric = metric_named(name)
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def axis_label(axis: Axis) -> str:
    """Label of an axis. An axis that shows kurtosis in the variance form always says that one is subtracted."""
    label = axis.label or f"{'cumulative ' if axis.cumulative else ''}{metric_label(axis.metric)}"
    if axis.form == "variance" and "− 1" not in label and "- 1" not in label:
        label = f"{label} − 1" if axis.label is None else f"{label} (minus 1)"
    return label


def common_label(labels: Sequence[str]) -> tuple[str, list[str]]:
    """What labels such as `m4 update, cubic` and `m4 update, quartic` share before the comma, and the rest of each.

    Labels that share nothing are kept whole under the name "value".
    """
    if len(set(labels)) == 1:
        return labels[0], list(labels)
    heads, tails = zip(*(label.partition(", ")[::2] for label in labels), strict=True)
    return (heads[0], list(tails)) if len(set(heads)) == 1 and all(tails) else ("value", list(labels))


def layer_label(layer: str) -> str:
    """Name of a layer in a legend or panel title: a block's number, `unembed`, `mean`, or "" for no layer.

    Raises:
        ValueError: there is no such layer.
    """
    words = {"unembed": "unembedding", "mean": "mean over blocks", "": ""}
    if layer in words:
        return words[layer]
    if not layer.isdecimal():
        raise ValueError(f"there is no layer {layer}")
    return f"layer {layer}"


def block_name(model: TransformerConfig | MlpConfig | VitConfig) -> str | None:
    """Kind of block that a model has, as `theme.BLOCK_COLOURS` names it; None for any other arrangement of norms."""
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
