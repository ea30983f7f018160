from __future__ import annotations

from collections.abc import Callable

import pytest

from reproduce.specs.load import load_experiment
from reproduce.specs.provenance import Hyperparameter, hyperparameters
from reproduce.specs.schema import Scale

Change = Callable[[str, str, str], None]


def changed(row: Hyperparameter) -> bool:
    """Whether the scale that was asked for has another value than the paper's."""
    return bool(row.value != row.scale_value)


def rows(scale: Scale, run: str | None = None) -> dict[str, Hyperparameter]:
    return {row.path: row for row in hyperparameters(load_experiment("fig1"), scale) if row.run == run}


@pytest.mark.usefixtures("root")
def test_every_value_with_its_origin_and_what_the_scale_makes_of_it() -> None:
    own = rows("smoke")
    assert own["optimizer.lr"] == Hyperparameter("toy", None, "optimizer.lr", 1e-3, "stated-v2", "", 5e-3)
    assert changed(own["optimizer.lr"])
    assert not changed(own["optimizer.weight_decay"])
    assert (own["model.heads"].source, own["model.heads"].note) == ("code", "not in the text")
    assert own["model.width"].source == "stated-v1"  # by the entry for model as a whole
    assert (own["blocks.op.attn_gain"].value, own["blocks.op.attn_gain"].note) == (0.3, "not trained")


@pytest.mark.usefixtures("root")
def test_a_value_that_only_a_scale_sets_has_no_origin_in_the_paper() -> None:
    precision = rows("laptop")["precision"]
    assert precision == Hyperparameter("toy", None, "precision", None, None, "", "auto")
    assert changed(precision)


@pytest.mark.usefixtures("root")
def test_at_paper_scale_nothing_is_changed() -> None:
    assert not any(changed(row) for row in hyperparameters(load_experiment("fig1"), "paper"))


def test_nor_has_one_whose_parent_has_an_entry_for_what_the_paper_sets(change: Change) -> None:
    change("settings/toy.yaml", "data: {source: python-stdlib}, steps", "data: {train_tokens: 500}, steps")
    assert rows("laptop")["data.train_tokens"] == Hyperparameter("toy", None, "data.train_tokens", None, None, "", 500)


def test_a_null_of_the_paper_has_an_origin(change: Change) -> None:
    change("settings/toy.yaml", "  grad_clip: 1.0\n", "  grad_clip: null\n")
    assert rows("laptop")["grad_clip"] == Hyperparameter("toy", None, "grad_clip", None, "stated-v2", "", None)


def test_deviations_of_runs(change: Change) -> None:
    assert rows("smoke", "toy-pre") == {}
    assert rows("smoke", "toy-op") == {
        "block": Hyperparameter("toy", "toy-op", "block", "op", "stated-v1", "the block of Sec 3", "op")
    }
    change("fig1.yaml", "  - toy-pre", "  - toy-slow")
    assert rows("smoke", "toy-slow") == {
        "optimizer.lr": Hyperparameter("toy", "toy-slow", "optimizer.lr", 3e-4, None, "", 2e-3)
    }
    assert not changed(rows("laptop", "toy-slow")["optimizer.lr"])


def test_a_value_of_a_run_may_have_an_origin_of_its_own(change: Change) -> None:
    change(
        "settings/toy.yaml",
        "block: op, source: stated-v1,",
        "block: op, optimizer: {lr: 2e-3, beta1: 0.5}, steps: 7, probe: {every: 7}, source: stated-v1,"
        " sources: {optimizer: [inferred, a guess], optimizer.beta1: code, steps: stated-v2},",
    )
    own = rows("paper", "toy-op")
    assert {path: (row.source, row.note) for path, row in own.items()} == {
        "block": ("stated-v1", "the block of Sec 3"),
        "optimizer.lr": ("inferred", "a guess"),
        "optimizer.beta1": ("code", ""),
        "steps": ("stated-v2", ""),
        "probe.every": ("stated-v1", "the block of Sec 3"),
    }


def test_what_a_run_changes_at_another_scale_alone_has_no_origin(change: Change) -> None:
    change(
        "settings/toy.yaml",
        "optimizer: {lr: 3e-4}, at: {smoke: {",
        "optimizer: {lr: 3e-4}, source: stated-v1, note: of the rate, at: {smoke: {steps: 9, ",
    )
    change("fig1.yaml", "  - toy-pre", "  - toy-slow")
    assert rows("smoke", "toy-slow") == {
        "optimizer.lr": Hyperparameter("toy", "toy-slow", "optimizer.lr", 3e-4, "stated-v1", "of the rate", 2e-3),
        "steps": Hyperparameter("toy", "toy-slow", "steps", None, None, "", 9),
    }
    assert set(rows("paper", "toy-slow")) == {"optimizer.lr"}


@pytest.mark.parametrize(
    ("name", "run", "sources"),
    [
        ("fig18", "cp-preln-beta0.1", {"block": "stated-v2", "model.block.attn_gain": "inferred"}),
        ("fig21", "cp-leaky-s0.0", {"model.leaky_slope": "stated-v2"}),
        ("fig21", "cp-leaky-s0.8", {"model.leaky_slope": "inferred", "stop_after": "stated-v2"}),
        (
            "fig23",
            "cp-vskip-b0.5",
            {
                "model.block.attn_alpha": "stated-v2",
                "model.block.attn_beta": "inferred",
                "model.block.mlp_gain": "stated-v2",
                "stop_after": "stated-v2",
            },
        ),
        ("fig41", "cp-preln-nomom-soap", {"steps": None, "probe.batch_size": None, "optimizer.max_precond_dim": None}),
        ("fig44", "cp-preln-mom", {"optimizer.beta1": "stated-v2", "optimizer.beta2": "inferred"}),
        ("fig24", "lg1.2b-preln-noembscale-lr6e-4", {"optimizer.lr": "stated-v2", "model.embed_scale": "inferred"}),
        ("fig30", "mlp-norm-adam-eps1e-4", {"block": "stated-v2", "optimizer.eps": "inferred"}),
        ("tab3", "cp-t3-preqk", {"model.block.pre_qk": "stated-v1", "model.block.mlp_gain": "inferred"}),
        (
            "v2-fig8",
            "cp4096-adafactor",
            {
                "optimizer.name": "stated-v2",
                "optimizer.beta2": "inferred",
                "batch_size": "stated-v2",
                "steps": "inferred",
                "probe.every": "inferred",
                "eval.every": "inferred",
                "eval.batches": "inferred",
            },
        ),
        ("v2-fig8", "cp4096-soap", {"optimizer.beta2": "stated-v2", "optimizer.max_precond_dim": None}),
        ("v2-fig9", "fw7b-prenorm-eps1e-5", {"block": "inferred", "optimizer.eps": "stated-v2"}),
    ],
)
def test_what_the_paper_states_of_shipped_runs(name: str, run: str, sources: dict[str, str | None]) -> None:
    found = {row.path: row.source for row in hyperparameters(load_experiment(name), "laptop") if row.run == run}
    assert {path: found[path] for path in sources} == sources


def test_a_remark_tells_what_of_a_stated_value_is_inferred() -> None:
    rows = hyperparameters(load_experiment("v2-fig8"), "laptop")
    notes = {row.path: row.note for row in rows if row.run == "cp4096-rotadafactor"}
    assert notes["schedule.kind"] == "that the decay is linear is inferred"
    assert notes["optimizer.name"] == "that it keeps momentum and clips no update is inferred"
