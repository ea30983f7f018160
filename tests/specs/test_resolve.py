from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reproduce.config import BlockConfig, DataConfig, RunConfig
from reproduce.errors import OfeError, SpecError
from reproduce.models.variants import MLP_NORMS, VARIANTS, variant_fields
from reproduce.specs.load import load_experiment
from reproduce.specs.resolve import fingerprint_if_any, merge, resolve
from reproduce.specs.runs import Resolved
from reproduce.specs.schema import Scale

Change = Callable[[str, str, str], None]


def resolved(scale: Scale = "smoke", **options: Any) -> Resolved:
    return resolve(load_experiment("fig1"), scale, fingerprint=lambda data: f"of-{data.source}", **options)


def configs(scale: Scale = "smoke", **options: Any) -> dict[str, RunConfig]:
    result = resolved(scale, **options)
    return {run.name: run.config for run in (*result.runs, *result.extra)}


def failure(scale: Scale = "smoke", **options: Any) -> tuple[str, str | None]:
    with pytest.raises(SpecError) as caught:
        resolved(scale, **options)
    return caught.value.message, caught.value.hint


# ---------------------------------------------------------------------------------------------------
# Runs


@pytest.mark.usefixtures("root")
def test_more_steps_than_can_be_counted_are_refused() -> None:
    message, _ = failure(overrides=["steps=9000000000000000000"])
    assert message.endswith("steps: expected a number of at most 1e+07, got 9000000000000000000")


@pytest.mark.usefixtures("root")
def test_runs_seeds_labels_and_slugs() -> None:
    result = resolved()
    assert [run.slug for run in result.runs] == ["toy-pre-smoke-s0", "toy-op-smoke-s0", "toy-op-smoke-s1"]
    assert [run.label for run in result.runs] == ["Pre-LN", "Ours", "Ours"]
    assert [run.config.seed for run in result.runs] == [0, 0, 1]
    assert {run.setting for run in result.runs} == {"toy"}
    assert result.scale == "smoke"
    assert len({run.key for run in result.runs}) == 3


@pytest.mark.usefixtures("root")
def test_seeds_are_the_figures_own_up_to_the_scales_limit_unless_asked_for() -> None:
    def count(**options: Any) -> int:
        return sum(run.name == "toy-op" for run in resolved(**options).runs)

    assert count(scale="paper") == 3
    assert count(scale="smoke") == 2
    assert count(scale="smoke", seeds=5) == 5


@pytest.mark.usefixtures("root")
def test_runs_that_only_claims_need_stand_apart() -> None:
    result = resolved()
    assert [run.slug for run in result.extra] == ["toy-slow-smoke-s0"]


def test_a_needed_run_that_is_shown_is_not_needed_apart(change: Change) -> None:
    change("fig1.yaml", "  - toy-pre", "  - toy-slow")
    assert resolved().extra == ()


@pytest.mark.usefixtures("root")
def test_a_choice_of_runs() -> None:
    result = resolved(only_runs=["toy-op"])
    assert ({run.name for run in result.runs}, result.extra) == ({"toy-op"}, ())
    assert failure(only_runs=["toy-opp"]) == ("fig1 has no run toy-opp", "did you mean toy-op?")
    assert failure(only_runs=["x"]) == ("fig1 has no run x", "it has toy-pre, toy-op, toy-slow")


@pytest.mark.usefixtures("root")
def test_papers_data_is_told_from_substitutes() -> None:
    assert all(run.paper_data for run in resolved("paper").runs)
    assert not any(run.paper_data for run in resolved("smoke").runs)


def test_runs_of_two_settings(root: Path, change: Change) -> None:
    text = (root / "settings" / "toy.yaml").read_text().replace("id: toy", "id: other")
    text = text.replace("name: toy-", "name: o-")
    (root / "settings" / "other.yaml").write_text(text.replace("width: 64", "width: 96"))
    change("fig1.yaml", "setting: toy", "setting: [toy, other]")
    change("fig1.yaml", "  - toy-pre", "  - o-pre")
    runs = resolved("paper").runs
    assert [(run.name, run.setting) for run in runs[:2]] == [("o-pre", "other"), ("toy-op", "toy")]
    assert (runs[0].config.model.width, runs[1].config.model.width) == (96, 64)


def test_without_a_setting_there_is_nothing_to_train(change: Change) -> None:
    change("fig1.yaml", "setting: toy", "setting: null")
    change("fig1.yaml", "needs: [toy-slow]", "needs: []")
    change("fig1.yaml", "run: toy-slow", "run: toy-pre")
    result = resolved()
    assert (result.runs, result.extra) == ((), ())


def test_a_name_is_one_training_whoever_names_it(root: Path) -> None:
    text = (root / "fig1.yaml").read_text().replace("id: fig1\n", "id: fig2\n").replace("toy-pre", "toy-slow")
    (root / "fig2.yaml").write_text(text)
    extra = resolved().extra[0]
    shown = resolve(load_experiment("fig2"), "smoke", fingerprint=lambda data: f"of-{data.source}").runs[0]
    assert (extra.name, extra.key) == (shown.name, shown.key)


# ---------------------------------------------------------------------------------------------------
# Layers


@pytest.mark.usefixtures("root")
def test_later_layers_lie_over_earlier_ones() -> None:
    paper, smoke = configs("paper"), configs("smoke")
    assert paper["toy-pre"].optimizer.lr == 1e-3  # base
    assert smoke["toy-pre"].optimizer.lr == 5e-3  # scale over base
    assert paper["toy-slow"].optimizer.lr == 3e-4  # run over base
    assert configs("laptop")["toy-slow"].optimizer.lr == 3e-4  # run over scale
    assert smoke["toy-slow"].optimizer.lr == 2e-3  # the run at this scale over the run
    assert configs("smoke", overrides=["lr=7e-3"])["toy-slow"].optimizer.lr == 7e-3  # override over all


@pytest.mark.usefixtures("root")
def test_nested_keys_merge() -> None:
    slow = configs()["toy-slow"]
    assert slow.optimizer.weight_decay == 0.1
    assert (slow.model.width, slow.model.layers) == (32, 2)
    assert slow.schedule.warmup_fraction == 0.05


def test_merge_replaces_all_but_mappings() -> None:
    assert merge({"a": {"x": 1, "y": 2}, "b": [1]}, {"a": {"y": 3}, "b": [2]}) == {"a": {"x": 1, "y": 3}, "b": [2]}
    assert merge({"a": 1}, {"a": {"x": 1}}) == {"a": {"x": 1}}
    below = {"a": {"x": 1}}
    merge(below, {"a": {"x": 2}})
    assert below == {"a": {"x": 1}}


def test_null_takes_a_value_away(change: Change) -> None:
    change("settings/toy.yaml", "label: slow,", "label: slow, grad_clip: null,")
    assert configs()["toy-slow"].grad_clip is None
    assert configs()["toy-pre"].grad_clip == 1.0


def block(scale: Scale = "smoke", run: str = "toy-slow", **options: Any) -> BlockConfig:
    config = configs(scale, **options)[run]
    assert config.model.kind != "mlp"
    return config.model.block


@pytest.mark.usefixtures("root")
def test_block_names_a_variant_and_the_setting_adds_to_it() -> None:
    assert block(run="toy-pre") == BlockConfig(pre_qk="ln", pre_v="ln", pre_mlp="ln")
    assert block(run="toy-op") == BlockConfig(post_qk="rms", attn_gain=0.3, mlp_gain=0.3)


def test_the_last_block_named_wins(change: Change) -> None:
    assert block().pre_qk == "ln"  # base
    change("settings/toy.yaml", "{because: small,", "{because: small, block: pre-rms,")
    assert block("laptop").pre_qk == "rms"  # scale
    change("settings/toy.yaml", "label: slow,", "label: slow, block: post-ln,")
    assert block("laptop").post_norm == "ln"  # run
    change("settings/toy.yaml", "at: {smoke: {", "at: {smoke: {block: pre-srms, ")
    assert block("smoke") == BlockConfig(pre_qk="srms", pre_v="srms", pre_mlp="srms")  # the run at this scale
    assert block("smoke", overrides=["block=op"]) == BlockConfig(post_qk="rms", attn_gain=0.3, mlp_gain=0.3)


def test_single_choices_lie_over_the_variant(change: Change) -> None:
    change(
        "settings/toy.yaml", "label: slow,", "label: slow, block: op, model: {block: {post_qk: none, tanh_cap: 30}},"
    )
    assert block() == BlockConfig(tanh_cap=30.0, attn_gain=0.3, mlp_gain=0.3)
    assert block(overrides=["attn_gain=0.5"]).attn_gain == 0.5


def test_what_the_base_says_of_norms_lies_beneath_the_variant(change: Change) -> None:
    change("settings/toy.yaml", "layers: 2,", "block: {pre_v: rms}, layers: 2,")
    change("settings/toy.yaml", "  model.heads:", "  model.block: inferred\n  model.heads:")
    assert block(run="toy-op").pre_v == "none"


@pytest.mark.usefixtures("root")
def test_precision_auto_is_the_machines_best(monkeypatch: pytest.MonkeyPatch) -> None:
    for best in ("bf16", "fp32"):
        monkeypatch.setattr("reproduce.specs.resolve.best_precision", lambda machine, best=best: best)
        assert configs("laptop")["toy-pre"].precision == best
    assert configs("laptop", overrides=["precision=fp16"])["toy-pre"].precision == "fp16"
    assert configs("paper")["toy-pre"].precision == "fp32"


# ---------------------------------------------------------------------------------------------------
# Data


@pytest.mark.usefixtures("root")
def test_data_is_fingerprinted_once_for_all_its_runs() -> None:
    asked: list[DataConfig] = []

    def fingerprint(data: DataConfig) -> str:
        asked.append(data)
        return "abc"

    result = resolve(load_experiment("fig1"), "smoke", fingerprint=fingerprint)
    assert {run.config.data.fingerprint for run in (*result.runs, *result.extra)} == {"abc"}
    assert [(data.source, data.fingerprint) for data in asked] == [("python-stdlib", "")]


@pytest.mark.usefixtures("root")
def test_missing_data_stops_who_trains_and_not_who_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    def fingerprint(data: DataConfig) -> str:
        raise OfeError(f"no data for {data.source}")

    monkeypatch.setattr("reproduce.data.fingerprint", fingerprint, raising=False)
    with pytest.raises(OfeError, match="no data for python-stdlib"):
        resolve(load_experiment("fig1"), "smoke")
    result = resolve(load_experiment("fig1"), "smoke", fingerprint=fingerprint_if_any)
    assert {run.config.data.fingerprint for run in result.runs} == {""}


# ---------------------------------------------------------------------------------------------------
# Mistakes


def test_a_value_out_of_bounds_names_experiment_run_and_field(change: Change) -> None:
    change("settings/toy.yaml", "model: {width: 32}", "model: {width: 33}")
    assert failure() == ("fig1, run toy-pre at smoke: model: width 33 is not a multiple of heads 2", None)


def test_a_missing_value_names_experiment_run_and_field(change: Change) -> None:
    change("settings/toy.yaml", "  batch_size: 32\n", "")
    change("settings/toy.yaml", "  batch_size: stated-v1\n", "")
    assert failure()[0] == "fig1, run toy-pre at smoke: batch_size: required, but missing"


@pytest.mark.usefixtures("root")
def test_a_field_of_another_kind_of_model_is_named() -> None:
    message, hint = failure(overrides=["norm=ln"])
    assert message == "fig1, run toy-pre at smoke: model.norm: unknown key"
    assert hint is not None


def test_a_scale_that_the_setting_has_not(change: Change) -> None:
    change("settings/toy.yaml", "  workstation: {because: one GPU, steps: 500}\n", "")
    message = "fig1, run toy-pre at workstation: setting toy has no scale workstation"
    assert failure("workstation") == (message, "it has smoke, laptop, paper")


def test_a_block_that_the_kind_of_model_has_not(root: Path) -> None:
    text = (root / "settings" / "toy.yaml").read_text()
    text = text.replace("kind: transformer, layers: 2, width: 64, heads: 2", "kind: mlp, layers: 2, width: 64")
    text = text.replace("kind: text, source: codeparrot, seq_len: 16, vocab_size: 300", "kind: images, source: cifar10")
    (root / "settings" / "toy.yaml").write_text(text.replace("  model.heads: [code, not in the text]\n", ""))
    message = (
        "fig1, run toy-op at smoke: block: a model of kind mlp has no block op, only pre-ln, pre-rms, pre-srms, naive"
    )
    assert failure() == (message, None)
    assert configs(only_runs=["toy-pre"])["toy-pre"].model.model_dump()["norm"] == "ln"
    assert configs(only_runs=["toy-pre"], overrides=["block=naive"])["toy-pre"].model.model_dump()["norm"] == "none"


# ---------------------------------------------------------------------------------------------------
# Variants


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_valid_blocks_that_state_every_norm(name: str) -> None:
    assert BlockConfig.model_validate(VARIANTS[name]).model_dump(exclude_unset=True) == VARIANTS[name]
    assert {"pre_qk", "pre_v", "pre_mlp", "post_norm", "post_qk"} <= VARIANTS[name].keys()


def test_variants_of_the_paper() -> None:
    assert BlockConfig(**VARIANTS["pre-srms"]) == BlockConfig(pre_qk="srms", pre_v="srms", pre_mlp="srms")
    assert BlockConfig(**VARIANTS["post-ln"]) == BlockConfig(post_norm="ln")
    assert BlockConfig(**VARIANTS["op"]) == BlockConfig(post_qk="rms")
    assert BlockConfig(**VARIANTS["naive"]) == BlockConfig()


def test_variants_of_the_mlp_are_its_norm() -> None:
    assert variant_fields("pre-srms", "mlp") == {"norm": "srms"}
    assert variant_fields("pre-srms", "vit") == {"block": VARIANTS["pre-srms"]}
    assert MLP_NORMS.keys() <= VARIANTS.keys()


# ---------------------------------------------------------------------------------------------------


def test_resolving_imports_no_torch() -> None:
    heavy = {"torch", "numpy", "pandas", "matplotlib", "datasets", "transformers"}
    code = f"import sys, reproduce.specs.resolve, reproduce.specs.provenance; print({heavy} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
