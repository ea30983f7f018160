"""Learning-rate schedules: a ramp from 0 to the peak, then the decay of the named kind.

With w warm-up updates, T updates in all, t = 0 .. T - 1 the update's number and peak rate p:

    warm-up            p t / w                                   t < w
    linear             p (T - t) / (T - w)                       then
    cosine             p (1 + cos(pi (t - w) / (T - w))) / 2     then
    wsd                p min(1, (T - t) / (f T)), f the decay's fraction of the run
    constant           p                                         then

This is the convention of Hugging Face's schedulers, and so of the paper's code: update t uses the rate *at* t.
With warm-up the first update therefore has rate 0 and only fills the optimiser's moments; without it the first
update has the peak rate. The rate would reach 0 at t = T, so the last update still moves. The paper's code ends
at 1e-7 rather than 0. Of wsd the paper states how long warm-up and decay are; that the decay is linear is inferred. A
wsd warm-up that reaches into the decay is cut off by it: the lower ramp counts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reproduce.config import ScheduleConfig


def learning_rate(schedule: ScheduleConfig, step: int, steps: int, peak: float) -> float:
    """Rate of update number `step` (from 0) in a run of `steps` updates whose highest rate is `peak`."""
    assert 0 <= step < steps, f"update {step} of a run of {steps}"
    warmup = schedule.warmup(steps)
    rising = step / warmup if step < warmup else 1.0
    if schedule.kind == "wsd":
        return peak * min(rising, (1 - step / steps) / schedule.decay_fraction)
    if step < warmup or schedule.kind == "constant":
        return peak * rising
    remaining = (steps - step) / (steps - warmup)
    return peak * (remaining if schedule.kind == "linear" else (1 - math.cos(math.pi * remaining)) / 2)
