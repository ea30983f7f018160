"""`ofe status`: show how far each run in the cache is."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from reproduce.cli.console import Ui
from reproduce.cli.options import Json
from reproduce.units import count, duration

if TYPE_CHECKING:
    from reproduce.store.runs import RunFolder


def status(ctx: typer.Context, json: Json = False) -> None:
    """Show how far every run in the cache is.

    A run is running, sealed, failed, resumable or new, or queued as a job of a cluster.
    """
    from reproduce.cli.selection import store

    ui: Ui = ctx.obj
    rows = [row_of(folder) for folder in store().list()]
    if json:
        ui.json(rows)
        return
    if not rows:
        ui.tell("no run yet: `ofe list` shows the figures,\n      and `ofe reproduce ID` trains the runs of one")
        return
    ui.columns(
        [[row["slug"], row["state"], _position(row), _age(row["updated"]), row["error"] or row["key"]] for row in rows],
        widths=[16, 8, 8, 11],  # so that a key fits whole into 80 columns beside the longest names
        titles=["run", "state", "step", "updated", "key or error"],
    )
    told = Counter(row["state"] for row in rows)
    ui.line(f"\n{count(len(rows), 'run')}: {', '.join(f'{number} {state}' for state, number in told.items())}")


def _age(updated: str | None) -> str:
    """How long ago something was written: `3 min ago`; empty where that is not known."""
    if not updated:
        return ""
    try:
        then = datetime.fromisoformat(updated)
    except ValueError:
        return updated
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return f"{duration(max(0.0, (datetime.now(UTC) - then).total_seconds()))} ago"


def row_of(folder: RunFolder) -> dict[str, Any]:
    """The row of one run, as `ofe status --json` prints it. What is not known is None.

    A folder that cannot be read, or with a damaged file, has a row with state "failed" that says so.
    """
    from reproduce.errors import OfeError
    from reproduce.jobs.cluster import submitted

    state: str
    try:
        state, reason = folder.status()
        known = _of_sealed(folder) if state == "sealed" else folder.progress() or {}
        error = reason if state == "failed" else None
        job = submitted(folder.path)
        if job is not None and state in ("new", "resumable"):
            state = "queued"
    except OfeError as damage:
        state, known, error = "failed", {}, damage.message
    return {
        "key": folder.key,
        "slug": folder.slug,
        "state": state,
        "step": known.get("step"),
        "steps": known.get("steps"),
        "started": known.get("started"),
        "updated": known.get("updated"),
        "host": known.get("host"),
        "pid": known.get("pid"),
        "error": error,
    }


def _of_sealed(folder: RunFolder) -> dict[str, Any]:
    """What progress.json would say of a sealed run, which has none any more."""
    provenance, steps = folder.provenance(), folder.config().last_step
    done = provenance["failed_step"] if provenance["failed"] else steps
    known = {"step": done, "steps": steps, "updated": provenance.get("finished")}
    return known | {"started": provenance.get("started"), "host": provenance.get("machine", {}).get("host")}


def _position(row: dict[str, Any]) -> str:
    """How many of its steps a run has taken, such as `20/100`."""
    return "" if row["steps"] is None else f"{row['step']}/{row['steps']}"
