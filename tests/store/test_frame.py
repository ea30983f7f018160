"""The one table that plots and claims read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reproduce.errors import OfeError
from reproduce.specs.runs import Resolved, ResolvedRun
from reproduce.specs.schema import Experiment
from reproduce.store.frame import COLUMNS, RunFacts, load, metric_rows
from reproduce.store.reference import add_reference
from reproduce.store.runs import RunFolder, Store

MakeRun = Callable[..., ResolvedRun]
MakeSealed = Callable[..., RunFolder]


def resolved(*runs: ResolvedRun, extra: tuple[ResolvedRun, ...] = ()) -> Resolved:
    experiment = Experiment.model_validate(
        {
            "id": "fig5",
            "v1": "fig5",
            "v2": None,
            "title": "",
            "kind": "training",
            "section": "",
            "setting": None,
            "plot": {"kind": "lines", "y": [{"metric": "kurtosis"}]},
        }
    )
    return Resolved(experiment, "smoke", runs, extra)


# -- loading ---------------------------------------------------------------------------------------


def test_runs_are_read_under_the_names_that_the_figure_gives_them(
    store: Store, make_run: MakeRun, make_sealed: MakeSealed, tmp_path: Path
) -> None:
    trained = make_sealed(make_run(name="cp-op"))
    shown, absent = make_run(name="same-numbers"), make_run(seed=1)
    loaded = load(resolved(shown, absent), store, reference=False)
    assert dict(loaded.frame.dtypes.astype(str).replace("object", "str")) == COLUMNS
    assert set(loaded.frame["run"]) == {"same-numbers"}
    assert set(loaded.frame["label"]) == {"label of same-numbers"}
    assert set(loaded.frame["setting"]) == {"codeparrot-130m"}
    assert len(loaded.frame) == len(trained.read_trace())
    assert loaded.missing == [absent]
    assert loaded.facts == {
        ("same-numbers", 0): RunFacts(
            run="same-numbers",
            label="label of same-numbers",
            setting="codeparrot-130m",
            seed=0,
            layers=2,
            failed=False,
            failed_step=None,
            steps=20,
            source="python-stdlib",
            substitute=True,
            reference=False,
            key=trained.key,
            provenance=trained.provenance(),
        )
    }


def test_a_failed_run_is_data_and_says_so(store: Store, make_run: MakeRun, make_sealed: MakeSealed) -> None:
    run = make_run()
    make_sealed(run, failed=True, failed_step=17)
    loaded = load(resolved(run), store, reference=False)
    assert not loaded.missing
    facts = loaded.facts["cp-op", 0]
    assert (facts.failed, facts.failed_step) == (True, 17)
    assert facts.steps == 17, "though its trace has the weights of a later step, as traces of version 0.1 do"


def test_runs_of_the_claims_are_read_too(store: Store, make_run: MakeRun, make_sealed: MakeSealed) -> None:
    shown, needed = make_run(), make_run(name="cp-pre", seed=1)
    make_sealed(shown)
    make_sealed(needed)
    loaded = load(resolved(shown, extra=(needed,)), store, reference=False)
    assert set(loaded.facts) == {("cp-op", 0), ("cp-pre", 1)}
    assert loaded.frame["seed"].unique().tolist() == [0, 1]


def test_a_reference_stands_in_for_a_run_that_was_not_trained_here(
    make_run: MakeRun, make_sealed: MakeSealed, tmp_path: Path
) -> None:
    shipped = make_sealed(make_run(fingerprint="theirs"))
    figures, empty = tmp_path / "figures", Store(tmp_path / "empty")
    add_reference(shipped, "smoke", figures)
    ours = make_run(fingerprint="ours")

    loaded = load(resolved(ours), empty, reference=True, figures=figures)
    facts = loaded.facts["cp-op", 0]
    assert not loaded.missing
    assert facts.reference
    assert facts.key == shipped.key != ours.key
    assert "host" not in facts.provenance

    assert load(resolved(ours), empty, reference=False, figures=figures).missing == [ours]


def test_our_own_run_goes_before_the_reference(
    store: Store, make_run: MakeRun, make_sealed: MakeSealed, tmp_path: Path
) -> None:
    run = make_run()
    add_reference(make_sealed(make_run(fingerprint="theirs")), "smoke", tmp_path)
    make_sealed(run)
    loaded = load(resolved(run), store, reference=True, figures=tmp_path)
    assert not loaded.facts["cp-op", 0].reference
    assert loaded.facts["cp-op", 0].key == run.key


def test_without_any_run_the_table_is_empty_but_whole(store: Store, make_run: MakeRun) -> None:
    frame = load(resolved(make_run()), store, reference=False).frame
    assert list(frame.columns) == list(COLUMNS)
    assert frame["value"].dtype == float
    assert metric_rows(frame, "kurtosis").empty
    assert metric_rows(frame, "eval_ppl - train_loss").empty


def test_damage_is_an_error_and_not_a_missing_run(store: Store, make_run: MakeRun, make_sealed: MakeSealed) -> None:
    run = make_run()
    (make_sealed(run).path / "trace.parquet").write_bytes(b"PAR1")
    with pytest.raises(OfeError, match=r"trace\.parquet"):
        load(resolved(run), store, reference=False)


# -- metrics ---------------------------------------------------------------------------------------


@pytest.fixture
def frame() -> pd.DataFrame:
    rows = [
        (0, "train", "loss", "", 6.0),
        (0, "train", "accuracy", "", 0.1),
        (0, "eval", "loss", "", 5.0),
        (0, "eval", "accuracy", "", 0.2),
        (0, "probe", "kurtosis", "1", 3.0),
        (0, "probe", "kurtosis", "2", 4.0),
        (0, "probe", "m2_update_linear", "2", 0.5),
        (0, "probe", "loss", "1", -1.0),
        (1, "train", "loss", "", 5.5),
        (1, "probe", "m2_update_linear", "2", 0.25),
        (1, "probe", "kurtosis", "2", np.nan),
        (1, "eval", "loss", "", 1e4),
    ]
    table = pd.DataFrame(rows, columns=["step", "split", "metric", "layer", "value"])
    parts = [table.assign(run="a", label="A", setting="s", seed=seed) for seed in (0, 1)]
    parts[1]["value"] += 10
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def values(frame: pd.DataFrame, name: str) -> dict[tuple[int, int, str], float]:
    rows = metric_rows(frame, name)
    assert list(rows.columns) == ["run", "label", "setting", "seed", "step", "layer", "value"]
    return {(row.seed, row.step, row.layer): row.value for row in rows.itertuples()}


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("train_loss", {(0, 0, ""): 6.0, (0, 1, ""): 5.5}),
        ("eval_loss", {(0, 0, ""): 5.0, (0, 1, ""): 1e4}),
        ("eval_ppl", {(0, 0, ""): np.exp(5.0), (0, 1, ""): np.inf}),
        ("train_accuracy", {(0, 0, ""): 0.1}),
        ("test_accuracy", {(0, 0, ""): 0.2}),
        ("kurtosis", {(0, 0, "1"): 3.0, (0, 0, "2"): 4.0, (0, 1, "2"): np.nan}),
        ("m2_update_linear", {(0, 0, "2"): 0.5, (0, 1, "2"): 0.25}),
        ("mmr_max", {}),
        ("w8a8_ppl", {}),
    ],
)
def test_names_of_specs_lead_to_recorded_metrics(
    frame: pd.DataFrame, name: str, first: dict[tuple[int, int, str], float]
) -> None:
    ours = {point: value for point, value in values(frame, name).items() if point[0] == 0}
    assert ours == pytest.approx(first, nan_ok=True)


@pytest.mark.parametrize("name", ["loss", "no_such_metric", "n_layers", "eval_loss - failed", "eval_ppl -eval_loss"])
def test_what_no_trace_can_have_is_an_error_and_not_an_empty_table(frame: pd.DataFrame, name: str) -> None:
    with pytest.raises(ValueError, match=r"there is no metric|is a fact of a run"):
        metric_rows(frame, name)


def test_sums_and_differences_pair_equal_points(frame: pd.DataFrame) -> None:
    assert values(frame, "train_loss - eval_loss") == {
        (0, 0, ""): 1.0,
        (0, 1, ""): 5.5 - 1e4,
        (1, 0, ""): 1.0,
        (1, 1, ""): 5.5 - 1e4,
    }
    assert values(frame, "kurtosis + m2_update_linear") == pytest.approx(
        {(0, 0, "2"): 4.5, (0, 1, "2"): np.nan, (1, 0, "2"): 24.5, (1, 1, "2"): np.nan}, nan_ok=True
    )
    assert values(frame, "kurtosis + kurtosis - kurtosis") == pytest.approx(values(frame, "kurtosis"), nan_ok=True)
    assert values(frame, "kurtosis - train_loss") == {}


def test_reading_metrics_leaves_the_frame_alone(frame: pd.DataFrame) -> None:
    before = frame.copy()
    for name in ("eval_ppl", "kurtosis", "kurtosis - kurtosis"):
        rows = metric_rows(frame, name)
        rows["value"] = 0.0
    pd.testing.assert_frame_equal(frame, before)


# -- cost of importing -----------------------------------------------------------------------------


def test_only_the_readers_import_pandas_and_nothing_imports_torch() -> None:
    code = """
import json, sys
def heavy():
    return [name for name in ("torch", "pandas", "pyarrow", "matplotlib") if name in sys.modules]
import reproduce.store.runs, reproduce.store.trace, reproduce.store.seal, reproduce.store.reference
import reproduce.training.divergence, reproduce.store.home
light = heavy()
import reproduce.store.frame, reproduce.store.parquet
print(json.dumps([light, heavy()]))
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == [[], ["pandas", "pyarrow"]]


def test_a_folder_that_was_renamed_to_another_run_is_not_taken_for_it(
    store: Store, make_run: MakeRun, make_sealed: MakeSealed
) -> None:
    first, second = make_run(), make_run(seed=1)
    folder = make_sealed(first)
    folder.path.rename(store.runs / f"{second.slug}-{second.key}")
    with pytest.raises(OfeError, match="describes another run"):
        load(resolved(second), store, reference=False)
