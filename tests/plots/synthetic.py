"""Synthetic traces that look like real ones, and the experiments that plot them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from reproduce.claims import Verdict
from reproduce.config import RunConfig
from reproduce.specs.runs import Resolved, ResolvedRun
from reproduce.specs.schema import Experiment
from reproduce.store.frame import COLUMNS, Loaded, RunFacts

UPDATES = (
    *("m2_update_linear", "m2_update_quadratic"),
    *("m4_update_linear", "m4_update_quadratic", "m4_update_cubic", "m4_update_quartic"),
)
KURTOSIS = {"metric": "kurtosis", "scale": "log", "form": "variance"}
PRE_LN = {"pre_qk": "ln", "pre_v": "ln", "pre_mlp": "ln"}
OP = {"post_qk": "rms", "attn_gain": 0.3, "mlp_gain": 0.3}


@dataclass(frozen=True)
class Run:
    """A run of a synthetic figure: what the spec says of it, and what its trace is like."""

    name: str
    label: str
    setting: str = "codeparrot-130m"
    kind: str = "transformer"
    block: Mapping[str, Any] | None = None
    lr: float = 1e-3
    seeds: int = 1
    peak: float = 30.0
    """Largest kurtosis in its worst layer."""
    fails_at: int | None = None
    """Step at which the first seed diverges."""
    substitute: bool = True
    reference: bool = False
    trained: bool = True
    without: tuple[str, ...] = ()
    """Metrics that were not recorded."""


@dataclass(frozen=True)
class Case:
    """What `render` takes."""

    resolved: Resolved
    loaded: Loaded
    verdicts: list[Verdict]


def case(
    plot: Mapping[str, Any],
    runs: Sequence[Run],
    *,
    id: str = "fig5",
    title: str = "Kurtosis follows input correlation",
    scale: str = "laptop",
    layers: int = 3,
    steps: int = 400,
    published: Mapping[str, Any] | None = None,
    verdicts: Sequence[tuple[str, str]] = (),
) -> Case:
    """An experiment, resolved, with a trace for every run that is trained."""
    content = {"id": id, "v1": f"Figure {id[3:]}", "v2": "Figure 9", "title": title, "kind": "training", "section": "4"}
    settings = list(dict.fromkeys(run.setting for run in runs)) or None
    experiment = Experiment.model_validate(content | {"setting": settings, "plot": plot, "published": published or {}})
    resolved = []
    parts: list[pd.DataFrame] = []
    facts: dict[tuple[str, int], RunFacts] = {}
    missing: list[Any] = []
    for run in runs:
        for seed in range(run.seeds):
            config = config_of(run, layers, steps, seed)
            one = ResolvedRun(run.name, run.label, run.setting, scale, seed, config, not run.substitute)
            resolved.append(one)
            if not run.trained:
                missing.append(one)
                continue
            end = run.fails_at if seed == 0 else None
            parts.append(in_frame(trace(run, layers, steps, seed), one))
            facts[run.name, seed] = facts_of(one, end, run.substitute, run.reference)
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))
    return Case(
        Resolved(experiment, scale, tuple(resolved), ()),
        Loaded(frame.astype(COLUMNS), facts, missing),
        [verdict(claim, outcome) for claim, outcome in verdicts],
    )


def verdict(claim: str, outcome: Any) -> Verdict:
    return Verdict("fig5", claim, "says", "laptop", "python-stdlib", outcome, None, "", None, 1, "", "", "", "")


def in_frame(records: pd.DataFrame, run: ResolvedRun) -> pd.DataFrame:
    return records.assign(run=run.name, label=run.label, setting=run.setting, seed=run.seed)[list(COLUMNS)]


def facts_of(run: ResolvedRun, failed_step: int | None, substitute: bool, reference: bool) -> RunFacts:
    return RunFacts(
        run=run.name,
        label=run.label,
        setting=run.setting,
        seed=run.seed,
        layers=run.layers,
        failed=failed_step is not None,
        failed_step=failed_step,
        steps=failed_step or run.config.last_step,
        source=run.data.source,
        substitute=substitute,
        reference=reference,
        key="0" * 16,
        provenance={"data": {"description": "Python 3.11 standard library"}},
    )


def config_of(run: Run, layers: int, steps: int, seed: int) -> RunConfig:
    rest = {
        "optimizer": {"lr": run.lr},
        "steps": steps,
        "seed": seed,
        "probe": {"every": 20, "batch_size": 8},
        "eval": {"every": 50, "batches": 4},
    }
    if run.kind == "mlp":
        model = {"kind": "mlp", "layers": layers, "width": 32, **(run.block or {})}
        data = {"kind": "images", "source": "photo-patches", "train_images": 1000}
        return RunConfig.model_validate({"model": model, "data": data, "batch_size": 100, **rest})
    model = {"kind": "transformer", "layers": layers, "width": 64, "heads": 4, "block": dict(run.block or {})}
    data = {"kind": "text", "source": "python-stdlib", "seq_len": 128, "vocab_size": 2048}
    return RunConfig.model_validate({"model": model, "data": data, "batch_size": 8, **rest})


def checkpoint_trace(run: ResolvedRun) -> pd.DataFrame:
    """Records of one measurement of a checkpoint: one step, over all positions and without the first ones."""
    records = trace(Run(run.name, run.label), run.layers or 1, 20, run.seed)
    of_step = records[(records["split"] == "probe") & (records["step"] == 20)].assign(step=run.config.last_step)
    return pd.concat([of_step, of_step.assign(split="skipped")], ignore_index=True)


def trace(run: Run, layers: int, steps: int, seed: int) -> pd.DataFrame:
    """Long-form records: kurtosis that rises and falls, correlations that follow it, noisy losses and updates."""
    rng = np.random.default_rng([seed, *run.name.encode()])
    end = run.fails_at if run.fails_at is not None and seed == 0 else steps
    probed = np.unique([0, 1, 2, 3, 5, 8, 12, 20, 32, 50, *range(0, steps + 1, max(steps // 100, 1))])
    probed = probed[probed <= end]
    parts: list[pd.DataFrame] = []

    def record(split: str, metric: str, layer: str, at: np.ndarray, values: np.ndarray) -> None:
        if metric not in run.without:
            named = {"step": at, "split": split, "metric": metric, "layer": layer, "value": values}
            parts.append(pd.DataFrame(named))

    t = probed / steps
    for index, layer in enumerate([*map(str, range(1, layers + 1)), "unembed"]):
        worst = np.exp(-((index - 1.5) ** 2) / (layers * 1.5))
        noise = np.exp(0.05 * rng.standard_normal(len(probed)))
        excess = 0.03 * noise + (run.peak - 1) * worst * (t / 0.35) ** 1.5 * np.exp(1.5 * (1 - t / 0.35)) * noise
        correlation = 0.75 * np.log1p(excess) / np.log1p(700)
        record("probe", "kurtosis", layer, probed, 1 + excess)
        record("probe", "kurtosis_centred", layer, probed, 1 + 0.9 * excess)
        record("probe", "mmr_mean", layer, probed, 4 + 2 * np.sqrt(excess))
        record("probe", "mmr_max", layer, probed, 8 + 5 * np.sqrt(excess))
        record("probe", "input_correlation_mean", layer, probed, correlation)
        record("probe", "input_correlation_rms", layer, probed, np.sqrt(correlation**2 + 0.004))
        record("probe", "feature_correlation_rms", layer, probed, 0.02 + 0.4 * correlation)
        record("probe", "activation_rms", layer, probed, 1 + (1 + index + np.log(run.peak)) * t)
        if layer != "unembed":
            fall = 2.8 if run.fails_at else 0.8
            record("probe", "attention_entropy", layer, probed, np.maximum(3.2 - fall * np.minimum(t * 6, 1), 0.01))

    every = np.arange(1, end + 1)
    t = every / steps
    loss = 2.4 + 5.2 * np.exp(-t * 22) + 0.8 * np.exp(-t * 2.5) + 0.12 * rng.standard_normal(len(every))
    if end < steps:
        loss[-3:] = [6.0, 12.0, np.nan]
    record("train", "loss", "", every, loss)
    record("train", "accuracy", "", every, np.clip(1 - loss / 9, 0, 1))
    record("eval", "loss", "", probed, 2.5 + 4 * np.exp(-8 * probed / steps))
    record("eval", "accuracy", "", probed, 0.1 + 0.6 * (1 - np.exp(-5 * probed / steps)))
    for order, name in enumerate(UPDATES):
        size = run.peak * 10.0 ** -(order % 4) / steps
        record("probe", name, "2", every, size * ((1 - 1.4 * t) + rng.standard_normal(len(every))))
    return pd.concat(parts, ignore_index=True)


# ---------------------------------------------------------------------------------------------------
# Reading a figure


def words(figure: Figure) -> str:
    """All that is written anywhere on a figure."""
    return "\n".join(text.get_text() for text in figure.findobj(Text) if text.get_text())


def panels(figure: Figure) -> list[Axes]:
    """The axes that show something, in drawing order, without legends' cells and colour bars."""
    return [ax for sub in figure.subfigs for ax in sub.axes if ax.axison and ax.get_label() != "<colorbar>"]


def lines(ax: Axes) -> dict[str, np.ndarray]:
    """The curves of a panel as (n, 2) arrays by series."""
    return {str(line.get_label()): line.get_xydata() for line in ax.lines if not str(line.get_label()).startswith("_")}


def legend(figure: Figure) -> list[str]:
    """The names in a figure's legend, wherever it stands."""
    found = [legend for sub in figure.subfigs for legend in sub.legends]
    found += [legend for sub in figure.subfigs for ax in sub.axes if (legend := ax.get_legend()) is not None]
    return [text.get_text() for legend in found for text in legend.get_texts()]
