from __future__ import annotations

from collections.abc import Callable

import pytest

from reproduce.specs.load import load_experiment
from reproduce.specs.provenance import Row, hyperparameters
from reproduce.specs.schema import Scale

Change = Callable[[str, str, str], None]


def rows(scale: Scale, run: str | None = None) -> dict[str, Row]:
    return {row.path: row for row in hyperparameters(load_experiment("fig1"), scale) if row.run == run}


@pytest.mark.usefixtures("root")
def test_every_value_with_its_origin_and_what_the_scale_makes_of_it() -> None:
    own = rows("smoke")
    assert own["optimizer.lr"] == Row("toy", None, "optimizer.lr", 1e-3, "stated-v2", "", 5e-3)
    assert own["optimizer.lr"].changed
    assert not own["optimizer.weight_decay"].changed
    assert (own["model.heads"].source, own["model.heads"].note) == ("code", "not in the text")
    assert own["model.width"].source == "stated-v1"  # by the entry for model as a whole
    assert (own["blocks.op.attn_gain"].value, own["blocks.op.attn_gain"].note) == (0.3, "not trained")


@pytest.mark.usefixtures("root")
def test_a_value_that_only_a_scale_sets_has_no_origin_in_the_paper() -> None:
    precision = rows("laptop")["precision"]
    assert precision == Row("toy", None, "precision", None, None, "", "auto")
    assert precision.changed


@pytest.mark.usefixtures("root")
def test_at_paper_scale_nothing_is_changed() -> None:
    assert not any(row.changed for row in hyperparameters(load_experiment("fig1"), "paper"))


def test_deviations_of_runs(change: Change) -> None:
    assert rows("smoke", "toy-pre") == {}
    assert rows("smoke", "toy-op") == {
        "block": Row("toy", "toy-op", "block", "op", "stated-v1", "the block of Sec 3", "op")
    }
    change("fig1.yaml", "  - toy-pre", "  - toy-slow")
    assert rows("smoke", "toy-slow") == {"optimizer.lr": Row("toy", "toy-slow", "optimizer.lr", 3e-4, None, "", 2e-3)}
    assert not rows("laptop", "toy-slow")["optimizer.lr"].changed
