"""Verdicts in the words that `ofe verify`, `ofe list` and REPRODUCING.md share.

A verdict comes here as the plain dictionary of `Verdict.to_json`: from a fresh judgement, or from the record beside a
figure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from reproduce.claims.ruling import EARLY, Ruling
from reproduce.claims.wording import number


def tally(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """The verdicts on one or more figures, counted.

    Of those that count as reproduced it says how many rest on the first steps, or on a bound that the paper does not
    have: `8/10 reproduced (2 by the first 10% of the steps, 1 by a bound for this scale), 1 direction only, ...`.
    Identities, which hold by algebra, are counted behind them: `..., identities: 2/2 hold`.
    """
    if not verdicts:
        return "no claims"
    # A record that an earlier version wrote beside a figure knows no kinds.
    identities = [verdict for verdict in verdicts if verdict.get("kind") == "identity"]
    verdicts = [verdict for verdict in verdicts if verdict.get("kind") != "identity"]
    counts = Counter(verdict["verdict"] for verdict in verdicts)
    reproduced = [verdict for verdict in verdicts if verdict["verdict"] == "reproduced"]
    reasons = {
        f"by the first {EARLY:.0%} of the steps": sum(bool(verdict["early"]) for verdict in reproduced),
        "by a bound for this scale": sum(bool(verdict["because"]) for verdict in reproduced),
    }
    by = ", ".join(f"{times} {reason}" for reason, times in reasons.items() if times)
    first = f"{len(reproduced)}/{len(verdicts)} reproduced{f' ({by})' if by else ''}"
    others = [ruling for ruling in get_args(Ruling) if ruling != "reproduced" and counts[ruling]]
    found = [first, *(f"{counts[ruling]} {ruling}" for ruling in others)] if verdicts else []
    if identities:
        held = sum(verdict["verdict"] == "reproduced" for verdict in identities)
        found.append(f"identities: {held}/{len(identities)} hold")
    return ", ".join(found)


def published(value: Any) -> str:
    """The paper's own number, or its numbers by name, on one line; empty where it prints none."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_number(entry)}" for name, entry in value.items())
    return ", ".join(map(_number, value)) if isinstance(value, list) else _number(value)


def _number(value: Any) -> str:
    """One number. None stands for one that is printed but cannot be read, a string for one that is not finite."""
    if value is None:
        return "not readable"
    return value if isinstance(value, str) else number(value)
