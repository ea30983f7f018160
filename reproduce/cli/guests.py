"""`--overlay` and `--add` of `ofe plot`: lines that a figure's spec does not name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.cli.console import Ui
from reproduce.errors import OfeError

if TYPE_CHECKING:
    import pandas as pd

    from reproduce.specs.runs import Guest, Resolved
    from reproduce.store.frame import Loaded, RunFacts
    from reproduce.store.runs import RunFolder


@dataclass(frozen=True)
class Visitor:
    """A guest with its trace."""

    guest: Guest
    frame: pd.DataFrame
    """Columns step, split, metric, layer and value."""
    facts: RunFacts


def visitors(ui: Ui, overlays: Sequence[str], files: Sequence[str]) -> list[Visitor]:
    """The guests that the user asked for.

    Args:
        overlays: `RUN` or `LABEL=RUN`, with the key or slug of a sealed run or of a reference trace.
        files: `LABEL=FILE`, with a trace that another program wrote.

    Raises:
        OfeError: there is no such run or file, a file holds no metric, a run is named twice, or two files have the same
            label (exit code 2).
    """
    found = [*(_of_run(text) for text in overlays), *(_of_file(ui, text) for text in files)]
    for number, visitor in enumerate(found):
        guest = visitor.guest
        for other in (one.guest for one in found[:number]):
            if guest.name == other.name and guest.training is not None:
                raise OfeError(f"--overlay names {guest.name} twice", hint="leave one of them out", exit_code=2)
            if guest.label == other.label and guest.training is None and other.training is None:
                hint = "give each a label of its own"
                raise OfeError(f"--add has two traces with the label {guest.label}", hint=hint, exit_code=2)
    return found


def with_guests(resolved: Resolved, loaded: Loaded, guests: Sequence[Visitor]) -> tuple[Resolved, Loaded]:
    """The figure and its traces with the guests among them. Its claims must be judged before."""
    import pandas as pd

    if not guests:
        return resolved, loaded
    settings = list(dict.fromkeys(run.setting for run in resolved.runs))
    frames, facts, added = [loaded.frame], dict(loaded.facts), []
    for visitor in guests:
        guest = _placed(visitor.guest, settings, resolved)
        rows = visitor.frame.assign(run=guest.name, label=guest.label, setting=guest.setting, seed=guest.seed)
        frames.append(rows[list(loaded.frame.columns)])
        facts[guest.name, guest.seed] = replace(
            visitor.facts, run=guest.name, label=guest.label, setting=guest.setting, seed=guest.seed
        )
        added.append(guest)
    frame = pd.concat(frames, ignore_index=True).astype(loaded.frame.dtypes.to_dict())
    return replace(resolved, guests=tuple(added)), replace(loaded, frame=frame, facts=facts)


def _placed(guest: Guest, settings: Sequence[str], resolved: Resolved) -> Guest:
    """The guest under a label that says in what it differs, in a setting that the figure has if it has but one.

    A run of another scale differs in dozens of values, so that its label names the scale alone.
    """
    from reproduce.specs.difference import differences

    setting = settings[0] if len(settings) == 1 or (not guest.setting and settings) else guest.setting
    same = next((run for run in resolved.runs if run.label == guest.label), None)
    label = guest.label
    if same is not None and guest.setting and guest.setting != same.setting:
        label = f"{label} ({guest.setting})"
    elif guest.scale and guest.scale != resolved.scale:
        label = f"{label} ({guest.scale} scale)"
    elif same is not None and same.training is not None and guest.training is not None:
        changed = differences(same.training.model_dump(mode="json"), guest.training.model_dump(mode="json"))
        changed = [one for one in changed if one.path not in ("data.fingerprint", "seed")]
        said = [f"{one.path} {one.right}" for one in changed[:2]] + (["..."] if len(changed) > 2 else [])
        label = f"{label} ({', '.join(said) or guest.name})"
    elif same is not None:
        label = f"{label} (added)"
    return replace(guest, setting=setting, label=label)


def _of_run(text: str) -> Visitor:
    """A run of OFE_HOME, or a reference trace."""
    from reproduce.specs.runs import Guest
    from reproduce.store.frame import RunFacts
    from reproduce.store.reference import reference_root

    label, equals, name = text.rpartition("=")
    label = _shown(label)
    folder = sealed_run(name)
    said, training, provenance = folder.read_run_yaml(), folder.training(), folder.provenance()
    trace = folder.read_trace()
    if equals and not label:
        raise OfeError(f"{text!r} gives no label before =", hint=f"write LABEL={name}, or {name} alone", exit_code=2)
    guest = Guest(
        name=f"{folder.slug}-{folder.key}",
        label=label or said["label"],
        setting=said["setting"],
        seed=said["seed"],
        last_step=training.last_step,
        training=training,
        scale=said["scale"],
    )
    facts = RunFacts(
        run=guest.name,
        label=guest.label,
        setting=guest.setting,
        seed=guest.seed,
        layers=training.model.layers,
        failed=provenance["failed"],
        failed_step=provenance["failed_step"],
        steps=provenance["failed_step"] if provenance["failed"] else int(trace["step"].max()),
        source=training.data.source,
        substitute=provenance["substitute"],
        reference=folder.path.is_relative_to(reference_root()),
        key=folder.key,
        provenance=provenance,
    )
    return Visitor(guest, trace, facts)


def _of_file(ui: Ui, text: str) -> Visitor:
    """A trace that another program wrote."""
    from reproduce.specs.runs import Guest
    from reproduce.store.foreign import is_block, read_foreign_trace
    from reproduce.store.frame import RunFacts

    label, _, name = text.partition("=")
    label = _shown(label)
    if not label or not name:
        hint = "write LABEL=FILE: --add mine=trace.csv"
        raise OfeError(f"--add {text} does not name a label and a file", hint=hint, exit_code=2)
    path = Path(name)
    trace, unknown, repeated = read_foreign_trace(path)
    if unknown:
        names = ", ".join(name or "a column without a name" for name in unknown)
        ui.tell(f"{path}: {names} is no metric that ofe knows and is left out")
    if repeated:
        what = "value has" if repeated == 1 else "values have"
        ui.tell(f"{path}: {repeated:,} {what} a later one of the same step, metric and layer, which is drawn instead")
    last = int(trace["step"].max())
    file = _shown(path.name)
    guest = Guest(name=f"{label}={file}", label=label, setting="", seed=0, last_step=last, training=None)
    about: dict[str, Any] = {"data": {"description": file}}
    facts = RunFacts(
        run=guest.name,
        label=label,
        setting="",
        seed=0,
        layers=max((int(layer) for layer in trace["layer"].unique() if is_block(layer)), default=0),
        failed=False,
        failed_step=None,
        steps=last,
        source=file,
        substitute=False,
        reference=False,
        key="",
        provenance=about,
    )
    return Visitor(guest, trace, facts)


def _shown(name: str) -> str:
    """A name from the command line as a picture shows it: what is not UTF-8 or has no shape has a sign in its place."""
    text = os.fsencode(name).decode(errors="replace")
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def sealed_run(name: str) -> RunFolder:
    """The sealed training with this key or slug: one of OFE_HOME, else a reference trace.

    Raises:
        OfeError: there is none, there are several, or it has not ended (exit code 2).
    """
    from reproduce.choices import SCALES
    from reproduce.cli.selection import how_to_train, store
    from reproduce.store.reference import read_index, reference_root
    from reproduce.store.runs import RunFolder

    own = [folder for folder in store().list() if name in (folder.key, folder.slug, folder.path.name)]
    ended = [folder for folder in own if folder.sealed]
    root = reference_root()
    shipped = [
        RunFolder(root / scale / "traces" / entry["folder"])
        for scale in SCALES
        for entry in read_index(scale, root).values()
    ]
    found = ended or [folder for folder in shipped if name in (folder.key, folder.slug, folder.path.name)] or own
    if not found:
        hint = how_to_train(name) or "`ofe cache list` shows the runs of this machine"
        raise OfeError(f"no run {name}", hint=hint, exit_code=2)
    # A folder that was copied within the store, or renamed, has the key of another one or of another run.
    found = [folder for folder in found if folder.sealed and folder.holds_its_run] or found
    if len({folder.key for folder in found}) > 1:
        names = ", ".join(folder.key for folder in found)
        raise OfeError(f"{name} stands for several runs", hint=f"name one of {names}", exit_code=2)
    if not found[0].sealed:
        raise OfeError(f"{name} has not ended yet", hint="`ofe status` tells how far it is", exit_code=2)
    found[0].check_key()
    return found[0]
