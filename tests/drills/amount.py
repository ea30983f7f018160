"""How often a drill is repeated: a few times in the tests, more in `make drills`."""

from __future__ import annotations

import os

FACTOR = int(os.environ.get("DRILLS", "1"))
"""By how much `make drills` multiplies the repetitions."""


def often(times: int) -> int:
    return times * FACTOR
