"""`ofe diff`: two runs field by field and side by side, or one figure at two scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reproduce.choices import SCALES, Scale
from reproduce.cli.completion import complete_figure, complete_run
from reproduce.cli.console import Ui
from reproduce.cli.options import Json
from reproduce.errors import OfeError

if TYPE_CHECKING:
    import pandas as pd

    from reproduce.store.runs import RunFolder

_TAIL = 0.05
"""Share of the steps over which a metric of single batches is averaged for its last value."""


def diff(
    ctx: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_A RUN_B|ID",
            autocompletion=lambda incomplete: [*complete_run(incomplete), *complete_figure(incomplete)],
            help="Two runs by key or slug, of this machine or shipped; or one figure, with --scale given twice.",
        ),
    ],
    scales: Annotated[
        list[str] | None,
        typer.Option(
            "--scale", "-s", metavar="SCALE", help="The two scales at which a figure is compared: give it twice."
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="NAME", help="Print this metric of both runs at every step that both have."),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="LAYER", help="With --metric: this layer alone, such as 2 or unembed."),
    ] = None,
    json: Json = False,
) -> None:
    """Compare two runs, or one figure at two scales.

    Of runs: every field in which their configurations differ, and their traces side by side. Of a figure: the verdict
    on each claim at both scales, with what was measured.
    """
    ui: Ui = ctx.obj
    if layer is not None and metric is None:
        hint = f"add --metric kurtosis, or leave out --layer {layer}"
        raise OfeError("--layer is for a metric that --metric names", hint=hint, exit_code=2)
    if metric is not None and len(names) == 1:
        raise OfeError("--metric is for two runs", hint="leave it out, or name two runs", exit_code=2)
    if len(names) == 2 and not scales:
        from reproduce.cli.guests import sealed_run

        _diff_runs(ui, [sealed_run(name) for name in names], metric, layer, json)
    elif len(names) == 1 and scales and len(scales) == 2:
        _diff_figure(ui, names[0], [_scale(scale) for scale in scales], json)
    else:
        hint = "ofe diff RUN_A RUN_B, or ofe diff fig2 --scale laptop --scale workstation"
        raise OfeError("name two runs, or one figure and two scales", hint=hint, exit_code=2)


# ---------------------------------------------------------------------------------------------------
# Two runs


def _diff_runs(ui: Ui, folders: Sequence[RunFolder], metric: str | None, layer: str | None, json: bool) -> None:
    from reproduce.specs.difference import differences

    contents = [folder.read_run_yaml() for folder in folders]
    traces = [folder.read_trace() for folder in folders]
    if metric is not None:
        _side_by_side(ui, [folder.slug for folder in folders], traces, metric, layer, json)
        return
    changed = differences(*(about["config"] for about in contents))
    changed += [
        one._replace(path=f"version of {one.path}") for one in differences(*(about["numerics"] for about in contents))
    ]
    rows = _summary(*traces)
    if json:
        told = [{"key": about["key"], "slug": about["slug"]} for about in contents]
        fields = [{"field": one.path, "a": one.left, "b": one.right} for one in changed]
        ui.json({"a": told[0], "b": told[1], "config": fields, "trace": rows})
        return
    names = [f"{about['slug']} ({about['key']})" for about in contents]
    ui.line(f"A: {names[0]}\nB: {names[1]}\n")
    if changed:
        ui.heading("Configuration")
        ui.columns(
            [[f"  {one.path}", _text(one.left), _text(one.right)] for one in changed],
            widths=[24, 14],
            titles=["  field", "A", "B"],
        )
    else:
        ui.line("The configurations are equal.")
    ui.line()
    ui.heading("Traces")
    ui.columns(
        [
            [f"  {row['metric']}", row["what"], _number(row["a"]), _number(row["b"]), _ratio(row["metric"], row)]
            for row in rows
        ],
        widths=[26, 8, 10, 10],
        titles=["  metric", "", "A", "B", "B / A"],
    )
    ui.tell("\nof a metric that has layers, each value is that of the layer where it is largest,")
    ui.tell("among them the input of the unembedding, as in claims on the largest layer")
    ui.tell("next: `--metric kurtosis --layer 2` prints a metric of both step by step")


def _summary(left: pd.DataFrame, right: pd.DataFrame) -> list[dict[str, Any]]:
    """The last value and the peak of each metric that both traces have."""
    from reproduce.metrics.table import METRICS

    rows: list[dict[str, Any]] = []
    for metric in METRICS.values():
        if metric.place is None or metric.subject == "update":
            continue
        series = [_over_steps(trace, metric.place) for trace in (left, right)]
        if any(one.empty for one in series):
            continue
        kinds = ["last"] if metric.name in ("train_loss", "eval_loss", "lr") else ["last", "peak"]
        for what in kinds:
            a, b = (_reduced(one, what, smooth=metric.single_batch) for one in series)
            rows.append({"metric": metric.name, "what": what, "a": a, "b": b})
    return rows


def _over_steps(trace: pd.DataFrame, place: tuple[str, str]) -> pd.Series:
    """A metric by step; of one with layers, that of the layer where it is largest."""
    rows = trace[(trace["split"] == place[0]) & (trace["metric"] == place[1])]
    return rows.groupby("step")["value"].max().sort_index()


def _reduced(series: pd.Series, what: str, *, smooth: bool) -> float:
    if what == "peak":
        return float(series.max())
    return float(series.iloc[-max(1, round(_TAIL * len(series))) :].mean() if smooth else series.iloc[-1])


def _side_by_side(
    ui: Ui, names: Sequence[str], traces: Sequence[pd.DataFrame], metric: str, layer: str | None, json: bool
) -> None:
    """A metric of both runs at every step and layer that both have."""
    import difflib

    from reproduce.metrics.table import METRICS

    place = METRICS[metric].place if metric in METRICS else None
    if place is None:
        recorded = [name for name, one in METRICS.items() if one.place]
        close = difflib.get_close_matches(metric, recorded, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(recorded)}"
        raise OfeError(f"no trace records {metric}", hint=hint, exit_code=2)
    parts = [one[(one["split"] == place[0]) & (one["metric"] == place[1])] for one in traces]
    both = parts[0].merge(parts[1], on=["step", "layer"], suffixes=("_a", "_b"))
    both = both if layer is None else both[both["layer"] == layer]
    if both.empty:
        where = f" in layer {layer}" if layer else ""
        raise OfeError(f"the two runs have no step at which both recorded {metric}{where}", exit_code=2)
    rows = [
        {"step": int(step), "layer": where, "a": float(a), "b": float(b)}
        for step, where, a, b in zip(both["step"], both["layer"], both["value_a"], both["value_b"], strict=True)
    ]
    if json:
        from reproduce.store.json_text import without_nonfinite

        ui.json([without_nonfinite(row) for row in rows])
        return
    ui.line(f"{metric}\nA: {names[0]}\nB: {names[1]}\n")
    ui.columns(
        [[f"  {row['step']}", row["layer"], _number(row["a"]), _number(row["b"]), _ratio(metric, row)] for row in rows],
        widths=[10, 9, 12, 12],
        titles=["  step", "layer", "A", "B", "B / A"],
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "none" if value is None else str(value)


def _number(value: float) -> str:
    return f"{value:.4g}"


def _ratio(metric: str, row: Mapping[str, Any]) -> str:
    """The second value as a multiple of the first; empty where that says nothing."""
    from reproduce.metrics.table import METRICS

    if METRICS[metric].rounding or not row["a"] or row["a"] != row["a"]:
        return ""
    return f"{row['b'] / row['a']:.3g}"


# ---------------------------------------------------------------------------------------------------
# One figure at two scales


def _scale(name: str) -> Scale:
    """The scale of this name.

    Raises:
        OfeError: there is none (exit code 2).
    """
    for scale in SCALES:
        if scale == name:
            return scale
    raise OfeError(f"there is no scale {name}", hint=f"choose from {', '.join(SCALES)}", exit_code=2)


def _diff_figure(ui: Ui, name: str, scales: Sequence[Scale], json: bool) -> None:
    from reproduce.claims.verdict import evidence
    from reproduce.cli.selection import has_scale, judged, resolve_all
    from reproduce.report.verdicts import tally
    from reproduce.specs.load import load_experiment

    experiment = load_experiment(name)
    for scale in scales:
        if not has_scale(experiment, scale):
            raise OfeError(f"{experiment.id} has no {scale} scale", hint=f"ofe show {name}", exit_code=2)
    both = []
    for scale in scales:
        resolved = resolve_all([experiment], scale)[0]
        both.append([verdict.to_json() for verdict in judged(resolved, scale, reference=True)[1]])
    if json:
        ui.json(
            [
                {"claim": a["claim"], "says": a["says"], scales[0]: _brief(a), scales[1]: _brief(b)}
                for a, b in zip(*both, strict=True)
            ]
        )
        return
    ui.heading(f"{experiment.id}: {experiment.title}")
    for scale, verdicts in zip(scales, both, strict=True):
        ui.prose(f"{scale}: {tally(verdicts)}")
    ui.line()
    ui.columns(
        [
            [
                f"  {a['claim']}",
                a["verdict"],
                b["verdict"],
                "\n".join([a["says"], f"{scales[0]}: {evidence(a)}", f"{scales[1]}: {evidence(b)}"]),
            ]
            for a, b in zip(*both, strict=True)
        ],
        widths=[6, 16, 16],
        titles=["", scales[0], scales[1], "claim"],
    )


def _brief(verdict: Mapping[str, Any]) -> dict[str, Any]:
    return {name: verdict[name] for name in ("verdict", "measured", "bound", "reason")}
