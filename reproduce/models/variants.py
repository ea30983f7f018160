"""The paper's named blocks, as choices of `BlockConfig`.

A variant says where the norms stand and how attention entropy is regulated. Residual gains, the final norm
and the scale of the MLP input differ between settings and stand in each setting's `blocks`. Nothing here
imports torch.
"""

from __future__ import annotations

from typing import Any


def _norms(pre: str = "none", post: str = "none", post_qk: str = "none") -> dict[str, Any]:
    # All five are spelt out, so that a variant replaces what a setting's base says about norms.
    return {"pre_qk": pre, "pre_v": pre, "pre_mlp": pre, "post_norm": post, "post_qk": post_qk}


VARIANTS: dict[str, dict[str, Any]] = {
    "pre-ln": _norms(pre="ln"),
    "pre-rms": _norms(pre="rms"),
    "pre-srms": _norms(pre="srms"),
    "post-ln": _norms(post="ln"),
    "op": _norms(post_qk="rms"),
    "naive": _norms(),
    "pre-ln-gated": _norms(pre="ln") | {"gate": 0.25},
}
"""Fields of `BlockConfig` by block name: Eq (6), Eq (7), Eqs (12, 13), OP without entropy regulation (v1 Tab 2),
and Pre-LN with gated attention, whose initial probability is that of the OPT models of arXiv 2306.12929."""

MLP_NORMS: dict[str, str] = {"pre-ln": "ln", "pre-rms": "rms", "pre-srms": "srms", "naive": "none"}
"""The same names for the residual MLP, which has one norm a block and no attention."""


def variant_fields(block: str, kind: str) -> dict[str, Any]:
    """What the variant `block` sets in a model of this `kind`, as a part of the model's configuration.

    Raises:
        ValueError: if models of this kind have no such block.
    """
    known = MLP_NORMS if kind == "mlp" else VARIANTS
    if block not in known:
        raise ValueError(f"a model of kind {kind} has no block {block}, only {', '.join(known)}")
    return {"norm": MLP_NORMS[block]} if kind == "mlp" else {"block": VARIANTS[block]}
