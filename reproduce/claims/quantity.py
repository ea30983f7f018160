"""Quantities: one number, or one per run, layer or step, read off the traces.

A *table* is a DataFrame with the column `value` and, beside it, a column for each of `run`, `seed`, `layer` and `step`
over which the quantity still has several values. Those columns are the table's dims. `read` goes through six stages in
this order, each of which is a function:

    trajectories   takes the metric's rows, kurtosis minus one where asked, adds plus_metric, sums over the steps so
                   far (cumulative), divides by per_metric, takes absolute values
    probes         reduces the layers at every step (`mean`, `max`) or selects some (a block, a list, `early`, ...)
    steps          drops the steps before `after` and behind `until`, then takes the initial, final, largest, ... value;
                   `change` is the final value less the initial one, and `each`, `some` and `most` keep all steps
    seeds          takes the mean over seeds: a peak over three seeds is the mean of three peaks, as in the tables
    argmax         finds the layer with the largest value
    runs           reduces the runs (reduce_runs), then subtracts minus_run

The words `each`, `some`, `most`, `max` and `argmax` are about every probed layer, the input of the unembedding
(`unembed`) included, unless `blocks` leaves that one out or says which third of the blocks is meant. The words `mean`,
`early` and `late` are about the blocks alone: the paper averages over blocks, its "final few blocks" are blocks, and
the plots' mean is the same one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, assert_never

import numpy as np
import pandas as pd

from reproduce.claims.ruling import NotMeasured
from reproduce.metrics.table import METRICS
from reproduce.specs.claims import DIMS, PAIR, QUANTIFIERS, UNEMBED, reads_fact
from reproduce.specs.schema import Quantity
from reproduce.store.frame import metric_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from reproduce.store.frame import RunFacts

TAIL = 1 / 80
"""Last part of a run, over which a single-batch metric is averaged for its final value: 1,000 of the paper's 80,000
steps."""

FEWEST_RANKS = 3
"""Fewest pairs whose ranks may be correlated; two pairs are always perfectly correlated."""

CASE = "case"
"""The dim of tables that hold several cases side by side, each to be judged by itself."""

_DIMS = (CASE, "run", "seed", *DIMS[1:])

FactsOf = Mapping[tuple[str, int], "RunFacts"]
"""Facts of the runs by (run, seed)."""


# ---------------------------------------------------------------------------------------------------
# Reading


def read(quantity: Quantity, frame: pd.DataFrame, facts: FactsOf, *, variance: bool = False) -> pd.DataFrame:
    """The table of `quantity`: its value for each run, layer and step that its words leave open.

    Args:
        frame: the tidy frame of `reproduce.store.frame`.
        facts: the facts of each (run, seed). A run without facts has no trace.
        variance: whether kurtosis is read in the variance form, kurtosis - 1.

    Raises:
        NotMeasured: a run, metric, layer or step is not in the traces, or the run failed.
    """
    if quantity.minus_run is not None:
        base = quantity.model_copy(
            update={"run": quantity.minus_run, "runs": None, "reduce_runs": None, "minus_run": None}
        )
        ours = read(quantity.model_copy(update={"minus_run": None}), frame, facts, variance=variance)
        pairs = join(ours, read(base, frame, facts, variance=variance))
        return pairs.assign(value=pairs["left"] - pairs["right"]).drop(columns=["left", "right"])

    pair = PAIR.fullmatch(quantity.metric)
    if pair:
        first, second = (
            read(quantity.model_copy(update={"metric": name}), frame, facts, variance=variance)
            for name in (pair[2], pair[3])
        )
        pairs = join(first, second)
        return constant(OF_TWO[pair[1]](pairs["left"], pairs["right"]))

    if reads_fact(quantity):
        table = _facts_table(quantity, facts)
    else:
        table = of_each_run(quantity, trajectories(quantity, frame, facts, variance=variance), facts)
    if len(quantity.run_names) == 1:
        return table.drop(columns="run")
    return table if quantity.reduce_runs is None else reduce_dim(table, "run", quantity.reduce_runs)


def of_each_run(quantity: Quantity, curves: pd.DataFrame, facts: FactsOf) -> pd.DataFrame:
    """The value of `quantity` for each run in `curves`, which are its `trajectories`: the stages probes to argmax."""
    table = _probes(curves, quantity)
    table = _steps(table, quantity)
    table = _seed_means(table)
    return _argmax(table, quantity, facts)


def dims(table: pd.DataFrame) -> list[str]:
    """The dims of `table`, in the order case, run, seed, layer, step."""
    return [dim for dim in _DIMS if dim in table.columns]


def constant(value: float) -> pd.DataFrame:
    """A table without dims, which holds one number."""
    return pd.DataFrame({"value": [float(value)]})


def join(left: pd.DataFrame, right: pd.DataFrame) -> pd.DataFrame:
    """The values of two tables side by side, in the columns `left` and `right`.

    Rows are matched one to one on the dims that both tables have. A dim that only one of them has broadcasts.

    Raises:
        NotMeasured: no row matches.
    """
    shared = [dim for dim in dims(left) if dim in dims(right)]
    first, second = left.rename(columns={"value": "left"}), right.rename(columns={"value": "right"})
    pairs = first.merge(second, on=shared) if shared else first.merge(second, how="cross")
    if pairs.empty:
        raise NotMeasured(f"the two sides have no {' and '.join(shared)} in common")
    return pairs


def rank_correlation(x: pd.Series, y: pd.Series) -> float:
    """Spearman's rank correlation, in [-1, 1]: Pearson's correlation of the ranks, where equal values share theirs."""
    if len(x) < FEWEST_RANKS:
        raise NotMeasured(f"a rank correlation needs {FEWEST_RANKS} pairs, there are {len(x)}")
    if x.nunique() == 1 or y.nunique() == 1:
        raise NotMeasured("a rank correlation needs values that differ")
    if x.isna().any() or y.isna().any():
        return math.nan
    # Twice the ranks about their mean are whole numbers, with which 0.9 is not a little less than 0.9.
    a, b = ((2 * each.rank() - (len(each) + 1)).astype(int).to_numpy() for each in (x, y))
    return int(a @ b) / math.sqrt(int(a @ a) * int(b @ b))


def rank_at_max(x: pd.Series, y: pd.Series) -> float:
    """The place of `x`, counted from its largest value, where `y` is largest. Equal values share the better place."""
    return float(x.rank(ascending=False, method="min").to_numpy()[y.to_numpy().argmax()])


OF_TWO: dict[str, Callable[[pd.Series, pd.Series], float]] = {
    "rank_corr": rank_correlation,
    "rank_at_max": rank_at_max,
}
"""The functions of two metrics, by the name that `PAIR` gives them."""


def seeds_read(run: str, quantity: Quantity, facts: FactsOf) -> list[int]:
    """The seeds of `run` that are averaged for `quantity`.

    A seed that failed is left out where another one finished. Where all seeds failed, the run only has a value at
    initialisation, since a trace that was cut short does not show a peak or an end. A quantity with a rule for
    failures (`nan`), and a fact such as `failed`, read every seed.

    Raises:
        NotMeasured: the run has no trace, or all its seeds failed and `quantity` needs more than the initialisation.
    """
    all_seeds = sorted(seed for name, seed in facts if name == run)
    if not all_seeds:
        raise NotMeasured(f"no trace of {run}")
    if quantity.nan is not None or reads_fact(quantity):
        return all_seeds
    finished = [seed for seed in all_seeds if not facts[run, seed].failed]
    if finished:
        return finished
    if quantity.over == "init":
        return all_seeds
    raise NotMeasured(f"{run} failed at step {facts[run, all_seeds[0]].failed_step}")


def trajectories(quantity: Quantity, frame: pd.DataFrame, facts: FactsOf, *, variance: bool) -> pd.DataFrame:
    """Values by run, seed, layer and step: runs in the order listed, seeds, layers and steps ascending."""
    table = _rows(quantity.metric, quantity, frame, facts, variance=variance)
    if quantity.plus_metric is not None:
        pairs = join(table, _rows(quantity.plus_metric, quantity, frame, facts, variance=variance))
        table = pairs.assign(value=pairs["left"] + pairs["right"]).drop(columns=["left", "right"])
    if quantity.cumulative:
        table = _cumulated(table)
    if quantity.per_metric is not None:
        divisor = _rows(quantity.per_metric, quantity, frame, facts, variance=variance)
        pairs = join(table, _cumulated(divisor) if quantity.cumulative else divisor)
        table = pairs.assign(value=pairs["left"] / pairs["right"]).drop(columns=["left", "right"])
    if quantity.abs:
        table["value"] = table["value"].abs()
    return table


def _cumulated(table: pd.DataFrame) -> pd.DataFrame:
    """The values of each curve, summed over the steps so far."""
    return table.assign(value=table.groupby(["run", "seed", "layer"], sort=False)["value"].cumsum())


def _rows(metric: str, quantity: Quantity, frame: pd.DataFrame, facts: FactsOf, *, variance: bool) -> pd.DataFrame:
    """The rows of `metric` that have a value, of the runs and seeds that `quantity` reads."""
    names = quantity.run_names
    seeds = {run: seeds_read(run, quantity, facts) for run in names}
    rows = metric_rows(frame, metric)  # first, since a metric is a small part of the frame
    used = {(run, seed) for run in names for seed in seeds[run]}
    places = zip(rows["run"].tolist(), rows["seed"].tolist(), strict=True)
    rows = rows[np.array([place in used for place in places], bool)]
    match quantity.nan:
        case "counts_as_inf":
            rows = _failures_as_inf(rows, facts)
        case "last_finite" | None:  # a value that is not a number counts as not recorded
            rows = rows.dropna(subset="value")
        case _:
            assert_never(quantity.nan)
    if variance and metric in METRICS and "variance" in METRICS[metric].forms:
        rows = rows.assign(value=rows["value"] - 1.0)
    for run in names:
        without = sorted(set(seeds[run]) - set(rows.loc[rows["run"] == run, "seed"]))
        if without:
            which = "" if without == seeds[run] else f" seed {', '.join(map(str, without))}"
            raise NotMeasured(f"{run}{which} has no {metric}")
    rows = rows.assign(
        place=rows["run"].map({run: place for place, run in enumerate(names)}),
        depth=rows["layer"].map({label: _depth(label) for label in rows["layer"].unique()}),
    )
    return rows.sort_values(["place", "seed", "depth", "step"], ignore_index=True)[
        ["run", "seed", "layer", "step", "value"]
    ]


def _failures_as_inf(rows: pd.DataFrame, facts: FactsOf) -> pd.DataFrame:
    """`rows` with infinity in place of NaN and of all values that a failed seed has from its failure on.

    A failed seed gets one infinite value in each layer at the step of its failure, whether it was probed there or not.
    """
    rows, parts = rows.fillna({"value": np.inf}), []
    for (run, seed), fact in facts.items():
        ours = rows[(rows["run"] == run) & (rows["seed"] == seed)]
        if fact.failed_step is None:
            parts.append(ours)
        else:
            end = ours.drop_duplicates("layer").assign(step=fact.failed_step, value=np.inf)
            parts += [ours[ours["step"] < fact.failed_step], end]
    return pd.concat(parts, ignore_index=True)


def _depth(label: str) -> float:
    """The place of a layer in the model, by which tables are sorted. The input of the unembedding comes last."""
    return np.inf if label == UNEMBED else float(label or 0)


# ---------------------------------------------------------------------------------------------------
# Stages


def _probes(table: pd.DataFrame, quantity: Quantity) -> pd.DataFrame:
    layer = quantity.layer
    blocks = table[table["layer"] != UNEMBED]
    match quantity.blocks:
        case True:
            table = blocks
        case "early" | "late" as which:
            table = _thirds(blocks, which)
        case False:
            pass
        case _:
            assert_never(quantity.blocks)
    match layer:
        case None:
            return table.drop(columns="layer")
        case "each" | "some" | "most" | "argmax":
            return table
        case "max":
            return reduce_dim(table, "layer", "max")
        case "mean":
            return reduce_dim(blocks, "layer", "mean")
        case "early" | "late":
            return _thirds(blocks, layer)
        case "unembed" | int():
            return _selected(table, [str(layer)], quantity).drop(columns="layer")
        case list():
            return _selected(table, [str(label) for label in layer], quantity)
        case _:
            assert_never(layer)


def _selected(table: pd.DataFrame, wanted: list[str], quantity: Quantity) -> pd.DataFrame:
    """The rows of the layers `wanted`, which every run must have."""
    for run, group in table.groupby("run", sort=False):
        absent = [label for label in wanted if label not in set(group["layer"])]
        if absent:
            raise NotMeasured(f"{run} has no {quantity.metric} in layer {', '.join(absent)}")
    return table[table["layer"].isin(wanted)]


def _thirds(blocks: pd.DataFrame, which: Literal["early", "late"]) -> pd.DataFrame:
    """The first or the last third of the blocks of each run."""
    return pd.concat([_third(group, which) for _, group in blocks.groupby("run", sort=False)], ignore_index=True)


def _third(of_run: pd.DataFrame, which: Literal["early", "late"]) -> pd.DataFrame:
    """The first or the last third of a run's blocks, which is at least one block."""
    blocks = of_run["layer"].unique()
    count = max(1, round(len(blocks) / 3))
    match which:
        case "early":
            return of_run[of_run["layer"].isin(blocks[:count])]
        case "late":
            return of_run[of_run["layer"].isin(blocks[-count:])]
        case _:
            assert_never(which)


def _time_mean(steps: NDArray[np.int64], values: NDArray[np.float64]) -> float:
    """Mean over the steps by the trapezoidal rule. A mean over the records would weigh the denser early probes more."""
    if len(steps) == 1:
        return float(values[0])
    return float(np.average((values[1:] + values[:-1]) / 2, weights=np.diff(steps)))


def _tail_mean(steps: NDArray[np.int64], values: NDArray[np.float64]) -> float:
    """Mean over the last `TAIL` of the run, which is how a single-batch metric ends."""
    return float(values[steps > steps[-1] * (1 - TAIL)].mean())


_OVER_STEPS: dict[str, Callable[[NDArray[np.int64], NDArray[np.float64]], float]] = {
    "init": lambda steps, values: float(values[0]),
    "final": lambda steps, values: float(values[-1]),
    "change": lambda steps, values: float(values[-1] - values[0]),
    "peak": lambda steps, values: float(values.max()),
    "min": lambda steps, values: float(values.min()),
    "mean": _time_mean,
    "argpeak": lambda steps, values: float(steps[values.argmax()]),
}


def _steps(table: pd.DataFrame, quantity: Quantity) -> pd.DataFrame:
    if quantity.after or quantity.until < 1:
        last = table.groupby(["run", "seed"], sort=False)["step"].transform("max")
        table = table[(table["step"] >= quantity.after * last) & (table["step"] <= quantity.until * last)]
    if quantity.over is None or quantity.over in QUANTIFIERS:
        return table
    over = _OVER_STEPS[quantity.over]
    metric = METRICS.get(quantity.metric)  # None for a sum of metrics
    if quantity.over == "final" and metric is not None and metric.single_batch:
        over = _tail_mean
    # The rows of one curve follow one another, so that its steps and values are parts of two arrays.
    left = [dim for dim in dims(table) if dim != "step"]
    curve = table.groupby(left, sort=False).ngroup().to_numpy()
    starts = np.flatnonzero(np.diff(curve, prepend=-1))
    steps, values = (np.split(table[name].to_numpy(), starts[1:]) for name in ("step", "value"))
    reduced = [over(*one) for one in zip(steps, values, strict=True)]
    return table.iloc[starts][left].assign(value=reduced).reset_index(drop=True)


def _seed_means(table: pd.DataFrame) -> pd.DataFrame:
    """The mean over the seeds of each run. A step that only some of the seeds have is left out."""
    left = [dim for dim in dims(table) if dim != "seed"]
    if table["seed"].nunique() <= 1:
        return table[[*left, "value"]].reset_index(drop=True)
    means = table.groupby(left, sort=False)["value"].agg(["mean", "size"]).reset_index()
    seeds = table.groupby("run", sort=False)["seed"].nunique()
    shared = means[means["size"] == means["run"].map(seeds)]
    return shared.rename(columns={"mean": "value"})[[*left, "value"]].reset_index(drop=True)


def _argmax(table: pd.DataFrame, quantity: Quantity, facts: FactsOf) -> pd.DataFrame:
    if quantity.layer != "argmax":
        return table
    left = [dim for dim in dims(table) if dim != "layer"]
    best = table.loc[table.groupby(left, sort=False)["value"].idxmax()]
    indices = [probe_index(label, run, facts) for label, run in zip(best["layer"], best["run"], strict=True)]
    return best[left].assign(value=indices).reset_index(drop=True)


def probe_index(label: str, run: str, facts: FactsOf) -> float:
    """The 1-based index of a layer. The input of the unembedding comes after the last block."""
    return float(label) if label != UNEMBED else 1.0 + layers_of(run, facts)


def layers_of(run: str, facts: FactsOf) -> int:
    """The number of blocks of a run's model.

    Raises:
        NotMeasured: the run has no trace.
    """
    for (name, _), fact in facts.items():
        if name == run:
            return fact.layers
    raise NotMeasured(f"no trace of {run}")


def _facts_table(quantity: Quantity, facts: FactsOf) -> pd.DataFrame:
    """The table of `n_layers`, or of the fraction of the seeds that `failed`."""
    values: dict[str, float] = {}
    for run in quantity.run_names:
        seeds = seeds_read(run, quantity, facts)
        match quantity.metric:
            case "n_layers":
                values[run] = float(layers_of(run, facts))
            case "failed":
                values[run] = float(np.mean([facts[run, seed].failed for seed in seeds]))
            case unknown:
                raise ValueError(f"nothing says how to read the fact {unknown} of a run")
    return pd.DataFrame({"run": list(values), "value": list(values.values())})


def reduce_dim(table: pd.DataFrame, dim: str, how: str) -> pd.DataFrame:
    left = [name for name in dims(table) if name != dim]
    if not left:
        return constant(table["value"].agg(how))
    return table.groupby(left, sort=False)["value"].agg(how).reset_index()
