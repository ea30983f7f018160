"""What the traces of a figure took to make, as their provenance recorded it: the one cost that every page states.

A core-minute is a minute of one core. A run that kept two cores busy for ten minutes took twenty of them. Minutes that
it waited for a core are not counted, except in traces that recorded the clock and the number of threads alone.
On an accelerator the minutes of the device are counted in place of those of the cores that feed it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from reproduce.units import count


def measured_cost(provenances: Iterable[Mapping[str, Any]]) -> str:
    """The sum over runs, such as `34 core-minutes`; empty where no run recorded its time.

    Measurements and quantisations do not know what the trainings behind them took, and the words say so.

    Args:
        provenances: that of each run.

    >>> busy = {"seconds": 600, "cpu_seconds": 900, "threads": 2}
    >>> measured_cost([busy])
    '15 core-minutes'
    >>> run = {"seconds": 600, "threads": 2, "device": "CPU", "machine": {"cpu": "CPU", "cores": 8}}
    >>> measured_cost([run, run]), measured_cost([run] * 60), measured_cost([run | {"device": "H100", "devices": 4}])
    ('40 core-minutes', '20 core-hours', '40 GPU-minutes')
    """
    spent: Counter[str] = Counter()
    kinds = set()
    for provenance in provenances:
        kinds.add(provenance.get("kind", "train"))
        if seconds := provenance.get("seconds"):
            on_cpu = _on_cpu(provenance)
            if on_cpu:
                seconds = provenance.get("cpu_seconds") or seconds * provenance.get("threads", 1)
            spent["core" if on_cpu else "GPU"] += seconds * provenance.get("devices", 1)
    told = " and ".join(_amount(seconds / 60, unit) for unit, seconds in spent.items())
    return f"{told} after training" if told and kinds != {"train"} else told


def machines(provenances: Iterable[Mapping[str, Any]]) -> str:
    """What the runs were made on, such as `AMD EPYC (2 cores)`; empty where none of them says so."""
    return ", ".join(dict.fromkeys(name for provenance in provenances if (name := _machine(provenance))))


def _amount(minutes: float, unit: str) -> str:
    """`34 core-minutes`, `20 core-hours`."""
    return f"{minutes:.0f} {unit}-minutes" if minutes < 600 else f"{minutes / 60:,.0f} {unit}-hours"


def _machine(provenance: Mapping[str, Any]) -> str:
    device, cores = provenance.get("device"), provenance.get("machine", {}).get("cores")
    return f"{device} ({count(cores, 'core')})" if device and cores and _on_cpu(provenance) else str(device or "")


def _on_cpu(provenance: Mapping[str, Any]) -> bool:
    cpu = provenance.get("machine", {}).get("cpu")
    return cpu is None or provenance.get("device") in (None, cpu)
