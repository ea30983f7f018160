"""The table of metrics against what the functions give and what trainings record."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from reproduce.measuring.streaming import StreamingSums
from reproduce.metrics.moment_updates import moment_updates
from reproduce.metrics.stream import measure_stream
from reproduce.metrics.table import (
    CHECKPOINT_METRICS,
    CORRELATION_METRICS,
    METRICS,
    STREAM_METRICS,
    UPDATE_METRICS,
    layered,
    metric_named,
    terms,
)
from reproduce.quantise.rows import ROWS
from reproduce.store.trace import Row, read_rows
from tests.parallel.toys import image_config, toy_config, train

from .singles import SINGLE


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """All that a language model whose moment updates are followed and an image classifier write to their traces."""
    text = tmp_path_factory.mktemp("text")
    train(text, toy_config(probe={"every": 3, "batch_size": 5, "moment_updates_layer": 2}))
    images = tmp_path_factory.mktemp("images")
    train(images, image_config())
    return [*read_rows(text), *read_rows(images)]


def test_a_stream_has_the_metrics_of_the_table_in_its_order() -> None:
    assert tuple(measure_stream(torch.randn(6, 4))) == STREAM_METRICS
    assert SINGLE.keys() == set(STREAM_METRICS), "each has a function of its own"


def test_moment_updates_are_those_of_the_table() -> None:
    assert tuple(moment_updates(torch.randn(6, 4), torch.randn(6, 4))) == UPDATE_METRICS


def test_trainings_record_what_the_table_says_and_nothing_else(recorded: list[Row]) -> None:
    metrics = [one for one in METRICS.values() if not one.of_quantisations and not one.of_checkpoints]
    places = [metric.place for metric in metrics if metric.place is not None]
    assert len(set(places)) == len(places)
    assert {(row.split, row.metric) for row in recorded} == set(places)


def test_metrics_have_layers_where_the_table_says_so(recorded: list[Row]) -> None:
    by_place = {metric.place: metric for metric in METRICS.values()}
    probed = {"run": {""}, "stream": {"1", "2", "unembed"}, "attention": {"1", "2"}, "update": {"2"}}
    for place in {(row.split, row.metric) for row in recorded}:
        layers = {row.layer for row in recorded if (row.split, row.metric) == place}
        assert layers == probed[by_place[place].subject], place


def test_entries_of_the_table_agree_with_one_another() -> None:
    for name, metric in METRICS.items():
        assert name == metric.name
        assert metric.label
        assert metric.is_fact is (name in ("n_layers", "failed"))
        if metric.exp_of is not None:
            assert METRICS[metric.exp_of].place is not None
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)
    forms = [name for name, metric in METRICS.items() if "variance" in metric.forms]
    assert forms == ["kurtosis", "kurtosis_centred", "kurtosis_skipped", "kurtosis_centred_skipped"]
    of_quantisations = [name for name, metric in METRICS.items() if metric.of_quantisations]
    widths = [f"w{b}a{b}_ppl{suffix}" for b in (8, 6, 4) for suffix in ("", "_std")]
    rows = [f"{row}_{what}" for row in ROWS for what in ("ppl", "weight_bits", "flops")]
    assert of_quantisations == [*widths, *rows]


def test_checkpoints_have_each_metric_with_and_without_the_first_positions() -> None:
    of_checkpoints = (*CHECKPOINT_METRICS, *CORRELATION_METRICS)
    for name in of_checkpoints:
        assert METRICS[name].place == ("probe", name)
        assert METRICS[f"{name}_skipped"].place == ("skipped", name)
    sums = StreamingSums(correlations=True)
    sums.add(torch.randn(2, 3, 4))
    assert tuple(sums.values()["all"]) == of_checkpoints


@pytest.mark.parametrize(
    ("expression", "signed"),
    [
        ("kurtosis", [("+", "kurtosis")]),
        (" a - b + c ", [("+", "a"), ("-", "b"), ("+", "c")]),
        ("a  +\tb", [("+", "a"), ("+", "b")]),
        ("a-b", [("+", "a-b")]),
    ],
)
def test_terms_of_sums_and_differences(expression: str, signed: list[tuple[str, str]]) -> None:
    assert terms(expression) == signed


@pytest.mark.parametrize(
    ("expression", "has"),
    [("eval_loss", False), ("w8a8_ppl - eval_ppl", False), ("kurtosis", True), ("m2_update_linear + mmr_max", True)],
)
def test_sums_have_layers_where_their_terms_do(expression: str, has: bool) -> None:
    assert layered(expression) is has


def test_a_name_that_no_metric_has_is_an_error() -> None:
    assert metric_named("lr").split == "train"
    for ask in (metric_named, layered):
        with pytest.raises(ValueError, match="there is no metric kurtosi"):
            ask("kurtosi")


def test_importing_the_table_loads_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import reproduce.metrics.table; "
        "print({name.partition('.')[0] for name in sys.modules.keys() - before} - sys.stdlib_module_names)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "{'reproduce'}"
