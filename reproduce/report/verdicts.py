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

_BY_START = f"by the first {EARLY:.0%} of the steps"
_BY_SCALE = "by a bound for this scale"


def tally(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """The verdicts on one or more figures, counted.

    Of those that count as reproduced it says how many rest on the first steps, or on a bound that the paper does not
    have: `8/10 reproduced (2 by the first 10% of the steps, 1 by a bound for this scale), 1 direction only, ...`.
    Identities, which hold by algebra, are counted behind them: `..., identities: 2/2 hold`.
    """
    if not verdicts:
        return "no claims"
    verdicts, identities = _apart(verdicts)
    counts = Counter(verdict["verdict"] for verdict in verdicts)
    reproduced = [verdict for verdict in verdicts if verdict["verdict"] == "reproduced"]
    reasons = Counter(reason for verdict in reproduced for reason in decided_by(verdict))
    by = ", ".join(f"{reasons[reason]} {reason}" for reason in (_BY_START, _BY_SCALE) if reasons[reason])
    first = f"{len(reproduced)}/{len(verdicts)} reproduced{f' ({by})' if by else ''}"
    others = [ruling for ruling in get_args(Ruling) if ruling != "reproduced" and counts[ruling]]
    found = [first, *(f"{counts[ruling]} {ruling}" for ruling in others)] if verdicts else []
    if identities:
        held = sum(verdict["verdict"] == "reproduced" for verdict in identities)
        found.append(f"identities: {held}/{len(identities)} hold")
    return ", ".join(found)


def short_tally(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """How many claims were reproduced and how many failed, in the width of a column: `7* of 10, 1 not`.

    A star says that some of those reproduced rest on something that `decided_by` names. Identities are counted only
    where a figure claims nothing else.
    """
    findings, identities = _apart(verdicts)
    if not findings:
        held = sum(verdict["verdict"] == "reproduced" for verdict in identities)
        return f"{held} of {len(identities)} identity" if identities else ""
    reproduced = [verdict for verdict in findings if verdict["verdict"] == "reproduced"]
    failed = sum(verdict["verdict"] == "not reproduced" for verdict in findings)
    star = "*" if any(map(decided_by, reproduced)) else ""
    return f"{len(reproduced)}{star} of {len(findings)}" + (f", {failed} not" if failed else "")


def decided_by(verdict: Mapping[str, Any]) -> list[str]:
    """What a verdict rests on beside the paper's own bound over the whole run; nothing in most cases."""
    if verdict["verdict"] == "not measured":
        return []
    return [reason for reason, holds in ((_BY_START, verdict["early"]), (_BY_SCALE, verdict["because"])) if holds]


def _apart(verdicts: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The findings and the identities among verdicts."""
    # A record that an earlier version wrote beside a figure knows no kinds.
    identities = [verdict for verdict in verdicts if verdict.get("kind") == "identity"]
    return [verdict for verdict in verdicts if verdict.get("kind") != "identity"], identities


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
