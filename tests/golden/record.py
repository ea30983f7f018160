"""What golden numbers are kept as, how new ones are compared with them, and what is to be done where they moved.

    components.json   component -> version, where it was made, numbers        (`tests.golden.components`)
    traces.json       setting -> versions of all it uses, where, numbers      (`tests.golden.traces`)
    keys.json         versions, and the keys of all shipped runs              (`tests.golden.keys`)

Numbers are the same to the last digit where everything that rounds is: the release of torch, the interpreter, the
processor and the instructions that torch uses of it. Anywhere else the order of sums differs. That moves a single pass
in float32 by about 1e-6 of its value, and 20 steps of training, in which Adam divides small gradients by themselves, by
up to about 1e-3. There a number may differ by `TOLERANCE` of itself, and by a hundredth of that of the largest number
beside it, since a sum may be small where its terms are not.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from reproduce.keys import NUMERICS_VERSION
from reproduce.machine import CPUINFO, this_machine
from tests.golden.components import BUILDS_ON, Numbers

FOLDER = Path(__file__).parent
TOLERANCE = {"components": 1e-4, "traces": 5e-3}
MAKE = "run `make golden`"


def platform_signature() -> dict[str, str]:
    """All that may round differently: numbers made under another signature are compared with a tolerance.

    Libraries choose their kernels by the generation of the processor, which its name need not tell: virtual machines
    call all of them alike. So the family, the model and the list of its instructions are part of the signature.
    """
    python = ".".join(platform.python_version_tuple()[:2])
    info = CPUINFO.read_text(errors="replace") if CPUINFO.is_file() else ""
    lines = [re.search(rf"^{name}\s*:.*$", info, re.MULTILINE) for name in ("cpu family", "model", "stepping", "flags")]
    generation = hashlib.sha256("\n".join(line[0] if line else "" for line in lines).encode()).hexdigest()[:8]
    return {
        "torch": torch.__version__,
        "python": python,
        "cpu": f"{this_machine().cpu} {generation}",
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


@dataclass(frozen=True)
class Entry:
    """Numbers of one component or trace, with the versions they belong to and where they were made."""

    versions: dict[str, int]
    made_on: dict[str, str]
    numbers: Numbers


def read(name: str) -> dict[str, Entry]:
    return {key: Entry(**entry) for key, entry in json.loads((FOLDER / f"{name}.json").read_text()).items()}


def write(name: str, entries: Mapping[str, Entry]) -> None:
    """One line for each list of numbers, so that a diff shows which moved."""
    lines = []
    for key, entry in entries.items():
        about = asdict(entry)
        numbers = ",\n".join(f"      {json.dumps(what)}: {json.dumps(list_)}" for what, list_ in entry.numbers.items())
        head = ", ".join(f'"{field}": {json.dumps(about[field])}' for field in ("versions", "made_on"))
        lines.append(f'  {json.dumps(key)}: {{\n    {head},\n    "numbers": {{\n{numbers}\n    }}\n  }}')
    (FOLDER / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def moved(old: Numbers, new: Numbers, tolerance: float) -> list[str]:
    """What of `old` is not the same in `new`, described; at tolerance 0 every digit counts. Additions do not count."""
    told = []
    for what, before in old.items():
        after = new.get(what, [])
        if len(before) != len(after):
            told.append(f"{what} has {len(after)} numbers, not {len(before)}")
            continue
        floor = 0.01 * max((abs(number) for number in before), default=0.0)
        for expected, got in zip(before, after, strict=True):
            if not abs(got - expected) <= tolerance * (abs(expected) + floor):  # NaN is never close
                told.append(f"{what}: {got!r} where {expected!r} was")
                break
    return told


def changes(kind: str, entry: Entry, new: Numbers) -> list[str]:
    """How `new` differs from a golden entry, exactly on the machine that made it and with a tolerance elsewhere."""
    return moved(entry.numbers, new, 0.0 if entry.made_on == platform_signature() else TOLERANCE[kind])


def current(versions: Mapping[str, int]) -> dict[str, int]:
    """The present versions of the components in `versions`, 0 for one that is gone."""
    return {name: NUMERICS_VERSION.get(name, 0) for name in versions}


def verdict(kind: str, name: str, entry: Entry | None, new: Numbers) -> str:
    """What is wrong with a golden entry in the face of `new` numbers, in a sentence; empty if nothing is."""
    if entry is None:
        return f"{name} has no golden numbers: {MAKE}"
    now = current(entry.versions)
    if now != entry.versions:
        raised = [f"{part} from {old} to {now[part]}" for part, old in entry.versions.items() if now[part] != old]
        return f"{name} was made before a version was raised, {', '.join(raised)}: {MAKE}"
    told, added = changes(kind, entry, new), [what for what in new if what not in entry.numbers]
    if not told:
        return f"{name} has new numbers ({', '.join(added[:3])}): {MAKE}" if added else ""
    who = name if kind == "components" else " or ".join(entry.versions)
    return f"{name} moved ({'; '.join(told[:3])}): raise NUMERICS_VERSION of {who}, see CONTRIBUTING.md, and {MAKE}"


def guilty(found: Mapping[str, Any]) -> set[str]:
    """Of the components that moved, those that do not merely build on another one that did."""
    return {name for name in found if not set(BUILDS_ON.get(name, ())) & set(found)}


@contextmanager
def one_thread_and_a_home(home: Path) -> Iterator[None]:
    """Prepared data goes to `home`, and sums have one order."""
    before, threads = os.environ.get("OFE_HOME"), torch.get_num_threads()
    os.environ["OFE_HOME"] = str(home)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if before is None:
            del os.environ["OFE_HOME"]
        else:
            os.environ["OFE_HOME"] = before


def renewed(
    kind: str, name: str, versions: Mapping[str, int], compute: Callable[[], Numbers], old: Entry | None
) -> Entry:
    """The entry to keep: the old one where its version stands, a new one where the version was raised.

    A number that is added needs no raised version, as long as all others stand.

    Raises:
        ValueError: the numbers moved and no version was raised.
    """
    new = compute()
    if old is not None and old.versions == dict(versions):
        if changes(kind, old, new):
            raise ValueError(verdict(kind, name, old, new))
        if set(new) == set(old.numbers):
            return old
    return Entry(dict(versions), platform_signature(), new)
