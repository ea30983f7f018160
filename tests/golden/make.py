"""Makes the golden numbers anew: `python -m tests.golden.make`, or `make golden`.

Numbers of a component that moved are written only once its version in `NUMERICS_VERSION` was raised. Keys are always
written, and those that moved are told.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from reproduce.keys import NUMERICS_VERSION, components
from tests.golden import keys
from tests.golden.components import COMPONENTS
from tests.golden.record import Entry, one_thread_and_a_home, read, renewed, write
from tests.golden.traces import smoke_runs, trace


def make() -> list[str]:
    """Write the three files, and return why a number was refused, if any was; then none of them is written."""
    refused: list[str] = []
    old = {kind: read(kind) for kind in ("components", "traces")}
    new: dict[str, dict[str, Entry]] = {"components": {}, "traces": {}}
    work = [("components", name, {name: NUMERICS_VERSION[name]}, compute) for name, compute in COMPONENTS.items()]
    for setting, run in smoke_runs().items():
        versions = {part: NUMERICS_VERSION[part] for part in components(run.config)}
        work.append(("traces", setting, versions, lambda setting=setting: trace(setting)))
    for kind, name, versions, compute in work:
        try:
            new[kind][name] = renewed(kind, name, versions, compute, old[kind].get(name))
        except ValueError as error:
            refused.append(str(error))
    if refused:
        return refused
    for kind, entries in new.items():
        write(kind, entries)
    runs = keys.shipped_runs()
    if keys.PATH.exists():
        for name, why in keys.moves(*keys.read_keys(), runs).items():
            print(f"the key of {name} moved: {why}", file=sys.stderr)
    keys.write_keys(keys.keys(runs))
    return []


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home, one_thread_and_a_home(Path(home)):
        refused = make()
    for why in refused:
        print(f"error: {why}", file=sys.stderr)
    sys.exit(bool(refused))
