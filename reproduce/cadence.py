"""At which steps of a run something is kept: probes, second moments, evaluations, records of training.

Training and planning read the same functions, so that a plan counts what a training writes. A run goes through the
steps 0 to `last_step`: step 0 is before the first update, `last_step` after the last. Nothing here imports torch.
"""

from __future__ import annotations

import math

TRAIN_RECORDS = 4_000
"""Records of loss, gradient norm and learning rate that a trace has at most."""
MOMENT_RATIO = 1.35
"""Least ratio of two steps whose second moments are both kept, first and last step aside."""


def probe_steps(last_step: int, every: int) -> list[int]:
    """Steps at which a run is probed: 0, the powers of two below `every` up to 64, every `every` steps, the last."""
    early = {0} | {1 << n for n in range(7) if 1 << n < every}
    steps = early.union(range(every, last_step, every), (last_step,))
    return sorted(step for step in steps if step <= last_step)


def moment_steps(last_step: int, every: int) -> list[int]:
    """The probe steps that keep the second moments too: thinned to a geometric sequence, with the first and last."""
    kept: list[int] = []
    for step in probe_steps(last_step, every):
        if not kept or step >= MOMENT_RATIO * kept[-1] or step == last_step:
            kept.append(step)
    return kept


def evaluation_steps(last_step: int, every: int) -> list[int]:
    """Steps at which a run is evaluated on held-out data: every `every` steps from 0 on, and the last."""
    return sorted({*range(0, last_step, every), last_step})


def log_every(last_step: int) -> int:
    """Steps whose means one record of training holds, so that there are at most `TRAIN_RECORDS` of them."""
    return math.ceil(last_step / TRAIN_RECORDS)
