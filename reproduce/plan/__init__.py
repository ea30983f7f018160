"""What reproducing figures takes before anything starts: runs, hits and misses, FLOPs, time, memory, disk.

    plan(resolveds, store, machine)      every run once: state, reason, cost; `misses` of it is what gets trained
    price(experiment, store, machine)    the same, summed, at every scale
    calibrate(machine, precisions)       times this machine in a process of its own
    examine(machine)                     what is installed, which devices, which data, what to do next

`machine` is the one to train on, which may be another than this one wherever nothing is measured. Nothing here loads
torch.
"""

from reproduce.plan.calibration import Calibration, calibrate, threads_per_run
from reproduce.plan.doctor import Check, examine
from reproduce.plan.planner import Plan, PlannedRun, Price, Total, basis, makespan, misses, plan, price, side_by_side

__all__ = [
    "Calibration",
    "Check",
    "Plan",
    "PlannedRun",
    "Price",
    "Total",
    "basis",
    "calibrate",
    "examine",
    "makespan",
    "misses",
    "plan",
    "price",
    "side_by_side",
    "threads_per_run",
]
