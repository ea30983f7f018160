"""What can become of a claim. This module is apart from those that judge, which load pandas."""

from __future__ import annotations

from typing import Literal

Ruling = Literal["reproduced", "direction only", "not reproduced", "not measured"]
"""`reproduce.claims.verdict` says when each applies."""

EARLY = 0.1
"""First part of a run's steps, whose peaks are told apart from later ones (`reproduce.claims.robustness`)."""


class NotMeasured(Exception):
    """The traces at hand cannot decide a claim; the message is the reason."""
