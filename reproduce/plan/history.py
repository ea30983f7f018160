"""What the store knows of a run before it is trained: its state, why, and how long its like took here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from statistics import median
from typing import Any, Literal

from reproduce.config import RunConfig
from reproduce.errors import OfeError
from reproduce.job_config import MeasureConfig
from reproduce.keys import canonical
from reproduce.machine import Machine
from reproduce.specs.difference import differences
from reproduce.specs.runs import ResolvedRun
from reproduce.store.layout import SUMS, checkpoints
from reproduce.store.reference import find_reference
from reproduce.store.runs import RunFolder, Store
from reproduce.store.weights import lacking

PlannedState = Literal["sealed", "running", "resumable", "failed", "missing"]
TO_TRAIN: frozenset[PlannedState] = frozenset({"resumable", "failed", "missing"})
"""States of a run that `ofe reproduce` trains."""

_SHOWN_CHANGES = 3


@dataclass(frozen=True)
class RunState:
    """How far a run is, and why it is to be trained or not."""

    state: PlannedState
    reason: str
    remaining: float
    """Share of its steps still to be trained."""


@dataclass(frozen=True)
class _Sealed:
    """A finished run of the store, as far as planning asks."""

    folder: RunFolder
    content: dict[str, Any]
    """Its run.yaml."""
    provenance: dict[str, Any]


class History:
    """The store as it is now, read once.

    Args:
        machine: that planned runs will be trained on; only runs on its like tell how long a step takes.
        threads, devices: that planned runs will have; likewise.
    """

    def __init__(self, store: Store, machine: Machine, threads: int, devices: int = 1) -> None:
        self.machine, self.threads, self.devices = machine, threads, devices
        self._folders: dict[str, RunFolder] = {}
        for folder in store.list():
            known = self._folders.get(folder.key)
            if known is None or (folder.sealed and not known.sealed):  # as `Store.find` chooses
                self._folders[folder.key] = folder

    # -- states ------------------------------------------------------------------------------------

    def lacks_weights(self, run: ResolvedRun, steps: Iterable[int]) -> bool:
        """Whether the finished `run` has not kept its weights of one of `steps`, which it has reached."""
        folder, steps = self._folders.get(run.key), list(steps)
        return folder is not None and bool(steps) and bool(lacking(folder.path, steps))

    def state(self, run: ResolvedRun, keep: Iterable[int] = ()) -> RunState:
        """The state of `run` and the reason for it.

        Args:
            keep: steps whose weights are wanted of it: a run that was sealed without them is missing.
        """
        folder = self._folders.get(run.key)
        if folder is None:
            return RunState("missing", self._why_missing(run), 1.0)
        try:
            state, reason = folder.status()
            if state == "sealed" and self.lacks_weights(run, keep):
                return RunState("missing", "sealed without its weights, which are wanted: it is trained again", 1.0)
            if state == "sealed":
                return RunState("sealed", _sealed_words(folder), 0.0)
            if state == "new":
                return RunState("missing", "prepared here and never trained", 1.0)
            kept = state == "running" or bool(checkpoints(folder.path))
            return RunState(state, reason, 1.0 - _done(folder, run.config.last_step) if kept else 1.0)
        except OfeError as error:  # a damaged folder is the reason, not the end of the plan
            return RunState("failed", error.message, 1.0)

    def _why_missing(self, run: ResolvedRun) -> str:
        if not isinstance(run.config, RunConfig):
            shipped = find_reference(run.recipe, run.scale) is not None
            done = "measured" if isinstance(run.config, MeasureConfig) else "quantised"
            return f"never {done} here" + ("; a reference trace of the recipe is at hand" if shipped else "")
        recipes = [past for past in self._sealed if past.content["recipe"] == run.recipe]
        if recipes:
            data, precision = recipes[-1].content["config"]["data"], recipes[-1].content["config"]["precision"]
            if data.get("fingerprint") != run.config.data.fingerprint:
                return f"trained here on other data only (fingerprint {data.get('fingerprint') or 'unknown'})"
            return f"trained here in {precision} only"
        same = [past for past in self._sealed if past.content["slug"] == run.slug]
        if same:
            changes = list(_changes(same[-1].content, run.config))
            more = f" and {len(changes) - _SHOWN_CHANGES} more" if len(changes) > _SHOWN_CHANGES else ""
            return f"trained here with {', '.join(changes[:_SHOWN_CHANGES])}{more}"
        if find_reference(run.recipe, run.scale) is not None:
            return "never trained here; a reference trace of the recipe is at hand"
        return "never trained here"

    # -- times -------------------------------------------------------------------------------------

    def step_seconds(self, run: ResolvedRun) -> float | None:
        """Seconds a step, probes and evaluations included, of finished trainings of this size here.

        None without one, and for a measurement, which takes no steps.
        """
        if not isinstance(run.config, RunConfig):
            return None
        return self._step_seconds.get(_size(run.config.model_dump(mode="json")))

    @cached_property
    def _step_seconds(self) -> dict[str, float]:
        times: dict[str, list[float]] = {}
        for past in self._sealed:
            seconds, steps = past.provenance.get("seconds"), past.provenance.get("trained_steps")
            if seconds and steps and self._ran_like_this(past.provenance):
                times.setdefault(_size(past.content["config"]), []).append(seconds / steps)
        return {size: median(of_size) for size, of_size in times.items()}

    def _ran_like_this(self, provenance: Mapping[str, Any]) -> bool:
        accelerated = self.machine.device == "cuda"
        on = self.machine.gpus[0].name if accelerated and self.machine.gpus else self.machine.cpu
        threads = provenance.get("threads") == self.threads or accelerated
        return provenance.get("device") == on and provenance.get("devices", 1) == self.devices and threads

    @cached_property
    def _sealed(self) -> list[_Sealed]:
        """Finished runs, oldest first; those that cannot be read are left out."""
        found = []
        for folder in self._folders.values():
            if folder.sealed:
                try:
                    found.append(_Sealed(folder, folder.read_run_yaml(), folder.provenance()))
                except OfeError:
                    continue
        return sorted(found, key=lambda past: str(past.provenance.get("finished", "")))


def _sealed_words(folder: RunFolder) -> str:
    provenance = folder.provenance()
    finished = provenance.get("finished")
    if finished is None:
        finished = datetime.fromtimestamp((folder.path / SUMS).stat().st_mtime, UTC).isoformat()
    diverged = f", diverged at step {provenance['failed_step']}" if provenance["failed"] else ""
    return f"sealed on {str(finished)[:10]}{diverged}"


def _done(folder: RunFolder, last_step: int) -> float:
    """Share of its steps that an unfinished run has behind it."""
    step = (folder.progress() or {}).get("step", 0)
    return min(max(step, 0) / last_step, 1.0) if isinstance(step, int) else 0.0


def _size(config: Mapping[str, Any]) -> str:
    """What the time of a step depends on: everything but rates, seeds, schedule and the number of steps."""
    free = {"seed", "schedule", "steps", "stop_after", "grad_clip"}
    kept = {name: value for name, value in config.items() if name not in free}
    shape = ("kind", "seq_len", "vocab_size", "side", "classes", "whiten", "augment")
    data = {name: config["data"].get(name) for name in shape}
    if config["data"]["kind"] == "images":  # some are read and decoded for each batch
        data["source"] = config["data"]["source"]
    optimizer = {name: config["optimizer"].get(name) for name in ("name", "precond_freq", "max_precond_dim")}
    return repr(sorted((kept | {"data": data, "optimizer": optimizer}).items()))


def _changes(past: Mapping[str, Any], config: RunConfig) -> Iterator[str]:
    """Where the configuration of a finished run differs: `optimizer.lr 0.005, not 0.001`."""
    for path, then, now in differences(past["config"], config.model_dump(mode="json")):
        yield f"{path} {then}, not {now}"
    for name, number in canonical(config)["numerics"].items():
        if past["numerics"].get(name) != number:
            yield f"version {past['numerics'].get(name)} of {name}, not {number}"
