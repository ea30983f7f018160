"""The rows of a quantisation: what can be quantised how, under which name. Nothing here imports torch.

Specs, plans, plots and the command line know rows by this table; `reproduce.quantise.lab` builds the models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Family = Literal["published", "causes", "int8", "int4", "weights", "keys"]
"""What a row belongs to.

    published   the published W8A8 protocol at every tensor of this package's transformers: static, with three sets of
                calibration text, and with dynamic ranges, which no calibration text can change
    causes      linear layers alone, dynamic: which choice of scales, positions or channels loses
    int8        methods against outliers in activations, at the widths that the user gives
    int4        weights and activations of 4 bits in groups
    weights     weights alone, of 2 or 3 bits
    keys        keys of attention in block floating point
"""


@dataclass(frozen=True)
class Row:
    """One way to quantise a model."""

    name: str
    label: str
    family: Family
    passes: float = 1.0
    """Cost beside an evaluation in full precision, in passes over the evaluation text."""


_TABLE = (
    Row("published", "published protocol, static per tensor", "published", 4.0),
    Row("published-other-text", "published, calibrated on other text", "published", 4.0),
    Row("published-random", "published, calibrated on random tokens", "published", 4.0),
    Row("dynamic", "published, with dynamic ranges", "published", 4.0),
    Row("dynamic-other-text", "dynamic, calibrated on other text", "published", 4.0),
    Row("dynamic-random", "dynamic, calibrated on random tokens", "published", 4.0),
    Row("weights", "weights alone, per tensor", "causes"),
    Row("activations", "activations alone, per tensor", "causes", 1.5),
    Row("tensor", "per tensor", "causes", 1.5),
    Row("integers", "per tensor, in integer arithmetic", "causes", 2.0),
    Row("token", "per token, weights per output", "causes", 1.5),
    Row("first-token", "per tensor, position 0 in float", "causes", 1.5),
    Row("outlier-channels", "per tensor, outlier channels in float", "causes", 2.5),
    Row("vector", "per token, weights per output, symmetric", "int8", 1.5),
    Row("llm-int8", "LLM.int8()", "int8", 2.5),
    Row("smoothquant", "SmoothQuant, per tensor", "int8", 1.5),
    Row("smoothquant-token", "SmoothQuant, per token", "int8", 1.5),
    Row("quarot", "QuaRot, per tensor", "int8", 2.0),
    Row("quarot-token", "QuaRot, per token", "int8", 2.0),
    Row("w4a4-groups", "4 bits in groups", "int4", 1.5),
    Row("quarot-w4a4", "QuaRot, 4 bits in groups", "int4", 2.0),
    Row("svdquant-0", "SVDQuant, rank 0 (smoothing)", "int4", 10.0),
    Row("svdquant-4", "SVDQuant, rank 4", "int4", 14.0),
    Row("svdquant-8", "SVDQuant, rank 8", "int4", 14.0),
    Row("svdquant-16", "SVDQuant, rank 16", "int4", 14.0),
    Row("w3-oc", "3 bits, groups of inputs", "weights"),
    Row("w3-ic", "3 bits, groups of outputs", "weights"),
    Row("w3-adadim", "3 bits, AdaDim", "weights", 1.5),
    Row("w2", "2 bits, per tensor", "weights"),
    Row("w2-splitquant", "2 bits, SplitQuant", "weights", 4.0),
    Row("w2-group", "2 bits, groups at SplitQuant's bits", "weights"),
    Row("w4", "4 bits, per tensor", "weights"),
    Row("w4-splitquant", "4 bits, SplitQuant", "weights", 4.0),
    Row("w4-group", "4 bits, groups at SplitQuant's bits", "weights"),
    *(
        Row(f"keys-{size}{suffix}", f"keys of {4 + 8 / size:g} bits, blocks of {size}{said}", "keys", 1.5)
        for size in (64, 32, 16, 8)
        for suffix, said in (("", ""), ("-sorted", ", sorted"))
    ),
)

ROWS = {row.name: row for row in _TABLE}
"""Every row by name, in the order of tables."""

CAUSES = tuple(row.name for row in _TABLE if row.family == "causes")
SETS = tuple(row.name for row in _TABLE if row.family == "published" and row.name != "published")
"""The study of calibration sets. The set of the published protocol itself is the training text."""
OWN_MODELS: tuple[Family, ...] = ("published", "keys")
"""Families of rows that apply to this package's transformers alone."""
METHODS = tuple(row.name for row in _TABLE if row.family in ("int8", "int4", "weights", "keys"))
