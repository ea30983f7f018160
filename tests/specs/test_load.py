from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reproduce.errors import SpecError
from reproduce.specs.load import catalogue, cautions, experiments_root, list_experiments, load_experiment, load_setting

Change = Callable[[str, str, str], None]


def failure(name: str = "fig1") -> tuple[str, str | None]:
    with pytest.raises(SpecError) as caught:
        load_experiment(name)
    return caught.value.message, caught.value.hint


def test_root_is_where_the_environment_points(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert experiments_root() == root
    for unset in (lambda: monkeypatch.setenv("OFE_EXPERIMENTS", ""), lambda: monkeypatch.delenv("OFE_EXPERIMENTS")):
        unset()
        assert experiments_root() == Path(__file__).parents[2] / "experiments"
    monkeypatch.setenv("OFE_EXPERIMENTS", "nowhere")
    with pytest.raises(SpecError, match="OFE_EXPERIMENTS names nowhere, which is not a folder"):
        experiments_root()


def test_experiment_by_id_and_label_and_file(root: Path, tmp_path: Path) -> None:
    by_id = load_experiment("fig1")
    assert by_id.id == "fig1"
    assert load_experiment("FIG1") == by_id
    assert load_experiment("v2:fig3") == load_experiment("v1:figure1") == by_id
    assert load_experiment("fig1.yaml") == by_id
    mine = root / "mine" / "other-name.yaml"
    mine.parent.mkdir()
    mine.write_text((root / "fig1.yaml").read_text())
    with pytest.raises(SpecError, match="expected other-name, the name of the file"):
        load_experiment(str(mine))


def test_a_users_own_file_needs_no_matching_name(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    mine = tmp_path_factory.mktemp("mine") / "anything.yml"
    mine.write_text((root / "fig1.yaml").read_text())
    assert load_experiment(str(mine)).id == "fig1"


def test_order_is_the_papers(root: Path) -> None:
    text = (root / "fig1.yaml").read_text()
    for name in ("fig10", "fig2", "tab1", "v2-fig8", "v2-fig31", "v2-tab2", "fig44", "mine", "tab3"):
        (root / f"{name}.yaml").write_text(text.replace("id: fig1\n", f"id: {name}\n"))
    expected = ["fig1", "fig2", "fig10", "fig44", "tab1", "tab3", "v2-fig8", "v2-fig31", "v2-tab2", "mine"]
    assert [experiment.id for experiment in list_experiments()] == expected


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("fg1", "no experiment fg1", "did you mean fig1?"),
        ("zzz", "no experiment zzz", "see `ofe list`"),
        ("../fig1", "no experiment ../fig1", "did you mean fig1?"),
        ("v2:fig9", "v2 has no Figure 9 here", "see `ofe list`"),
        ("v2:loss", "v2:loss names no figure or table", "write v2:fig7 or v2:tab3"),
        ("missing.yaml", "cannot read missing.yaml: No such file or directory", None),
    ],
)
def test_names_of_nothing(root: Path, name: str, message: str, hint: str | None) -> None:
    assert failure(name) == (message, hint)


def test_a_label_of_several_experiments_names_them(root: Path) -> None:
    (root / "fig2.yaml").write_text((root / "fig1.yaml").read_text().replace("id: fig1\n", "id: fig2\n"))
    assert failure("v2:fig3") == ("Figure 3 of v2 is in parts", "name fig1 or fig2")


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("title:", "titel:", "4:1: titel: unknown key", "did you mean title?"),
        (
            "kind: training",
            "kind: train",
            "5:7: kind: expected training, pretrained, table or diagram, got 'train'",
            "did you mean training?",
        ),
        ("scale: log", "scale: lg", "14:33: plot.y[0].scale: expected linear or log, got 'lg'", "did you mean log?"),
        ("says: lower", "note: lower", "17:5: claims[0].says: required, but missing", None),
        ("section: '3'", "section: 3", "6:10: section: expected a string, got 3", None),
        ("setting: toy", "setting: toi", "7:10: setting: no setting toi", "did you mean toy?"),
        ("id: fig1", "id: fig7", "1:5: id: expected fig1, the name of the file, got 'fig7'", None),
        ("  - toy-pre", "  - toy-prae", "9:5: runs[0]: no run toy-prae in setting toy", "did you mean toy-pre?"),
        ("  - toy-pre", "  - toy-op", "10:5: runs[1]: toy-op is given twice", None),
        (
            "{name: toy-op, seeds: 3, label: Ours}",
            "{name: toy-op, label: Ours, steps: 3}",
            "10:12: runs[1].name: toy-op is already a run of setting toy, name it only",
            None,
        ),
        (
            "{name: toy-op, seeds: 3, label: Ours}",
            "{name: mine, label: Mine, model: {wdth: 3}}\n  - toy-op",
            "10:39: runs[1].model.wdth: unknown key",
            "did you mean width?",
        ),
        (
            "{name: toy-op, seeds: 3, label: Ours}",
            "{name: mine, label: Mine, optimizer: {lr: fast}}\n  - toy-op",
            "10:47: runs[1].optimizer.lr: expected a number, got 'fast'",
            None,
        ),
        (
            "run: toy-op,",
            "run: toy-pro,",
            "19:35: claims[0].left.run: toy-pro is neither a run of this experiment nor one of the claim's needs",
            "did you mean toy-pre?",
        ),
        (
            "needs: [toy-slow]",
            "needs: [toy-slow, toy-fast]",
            "24:23: claims[0].needs[1]: no setting has a run toy-fast",
            "did you mean toy-slow?",
        ),
        ("basis: stated", "basis: stated\n    basis: stated", "24:5: claims[0].basis: key given twice", None),
        (
            "left: {metric: kurtosis,",
            "left: {metric: kurtosiss,",
            "19:20: claims[0].left.metric: unknown metric kurtosiss",
            "did you mean kurtosis?",
        ),
        (
            "{metric: kurtosis, scale: log}",
            "{metric: kurt, scale: log}",
            "14:16: plot.y[0].metric: unknown metric kurt",
            "did you mean kurtosis?",
        ),
        (
            "kind: lines",
            "kind: lines\n  x: {metric: steps}",
            "13:15: plot.x.metric: unknown x metric steps",
            "did you mean step?",
        ),
        (
            "run: toy-op, layer: 2",
            "run: toy-op, layer: 3",
            "19:50: claims[0].left.layer: layer 3 lies beyond the 2 blocks of the deepest model",
            None,
        ),
        (
            "layers: mean",
            "layers: [3]",
            "15:12: plot.layers[0]: layer 3 lies beyond the 2 blocks of the deepest model",
            None,
        ),
        ("layers: mean", "layers: [0]", "15:12: plot.layers[0]: blocks are counted from 1, got 0", None),
        ("layers: mean", "layers: []", "15:11: plot.layers: expected at least 1 entry", None),
        (
            "run: toy-op, layer: 2",
            "run: toy-op, layer: -1",
            "19:50: claims[0].left.layer: blocks are counted from 1, got -1",
            None,
        ),
        (
            "layers: mean",
            "layers: mean\n  x_max: {smoke: -5}",
            "16:18: plot.x_max.smoke: expected a number of at least 0, got -5",
            None,
        ),
    ],
)
def test_what_is_wrong_with_an_experiment(change: Change, old: str, new: str, message: str, hint: str | None) -> None:
    change("fig1.yaml", old, new)
    assert failure() == (f"fig1.yaml:{message}", hint)


def test_sums_and_differences_of_metrics_are_axes(change: Change) -> None:
    change("fig1.yaml", "{metric: kurtosis, scale: log}", "{metric: mmr_max - mmr_mean + kurtosis}")
    load_experiment("fig1")


@pytest.mark.parametrize("metric", ["mmr_max", "kurtosis + mmr_max", "eval_loss"])
def test_an_axis_has_a_form_only_where_its_metric_does(change: Change, metric: str) -> None:
    change("fig1.yaml", "{metric: kurtosis, scale: log}", f"{{metric: {metric}, form: variance}}")
    text = (
        f"variance is a form of kurtosis, kurtosis_centred, kurtosis_skipped, kurtosis_centred_skipped, not of {metric}"
    )
    assert failure()[0].endswith(f"plot.y[0].form: {text}")


def test_a_column_has_a_form_only_where_its_metric_does(change: Change) -> None:
    lines = "  kind: lines\n  y:\n    - {metric: kurtosis, scale: log}\n  layers: mean\n"
    column = "{title: Loss, metric: eval_loss, form: variance}"
    change("fig1.yaml", lines, f"  kind: table\n  columns:\n    - {column}\n")
    text = (
        "variance is a form of kurtosis, kurtosis_centred, kurtosis_skipped, kurtosis_centred_skipped, not of eval_loss"
    )
    assert failure()[0] == f"fig1.yaml:14:46: plot.columns[0].form: {text}"


def test_a_fact_is_a_column_but_no_term_of_one(change: Change) -> None:
    lines = "  kind: lines\n  y:\n    - {metric: kurtosis, scale: log}\n  layers: mean\n"
    table = "  kind: table\n  columns:\n    - {title: Depth, metric: n_layers}\n"
    change("fig1.yaml", lines, table)
    load_experiment("fig1")
    change("fig1.yaml", "metric: n_layers", "metric: n_layers - eval_loss")
    assert failure()[0].endswith("n_layers is a fact of a run, which cannot be added to other metrics")


def test_what_is_true_of_a_run_as_a_whole_is_no_axis(change: Change) -> None:
    change("fig1.yaml", "{metric: kurtosis, scale: log}", "{metric: failed}")
    assert failure()[0] == "fig1.yaml:14:16: plot.y[0].metric: unknown metric failed"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("laptop: {because: small,", "laptop: {because: small, model: {layers: 6},"),
        (
            "{name: toy-pre, label: Pre-LN}",
            "{name: toy-pre, label: P, at: {laptop: {because: x, model: {layers: 6}}}}",
        ),
    ],
)
def test_a_layer_of_one_scale_is_one(change: Change, old: str, new: str) -> None:
    change("settings/toy.yaml", old, new)
    change("fig1.yaml", "run: toy-op, layer: 2", "run: toy-op, layer: 6")
    load_experiment("fig1")


def test_several_problems_are_listed_in_the_order_of_the_file(change: Change) -> None:
    change("fig1.yaml", "cmp: lt", "cmp: les")
    change("fig1.yaml", "seeds: 3", "seeds: none")
    change("fig1.yaml", "metric: kurtosis, scale", "metrc: kurtosis, scale")
    message, hint = failure()
    assert message.splitlines() == [
        "fig1.yaml:10:27: runs[1].seeds: expected an integer, got 'none'",
        "fig1.yaml:14:8: plot.y[0].metrc: unknown key",
        "fig1.yaml:20:10: claims[0].cmp: expected gt, ge, lt, le, eq, approx, within_factor, decreasing, increasing "
        "or spearman_ge, got 'les'",
    ]
    assert hint == "line 14: did you mean metric?; line 20: did you mean le?"


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("width: 64", "wdith: 64", "6:41: base.model.wdith: unknown key", "did you mean width?"),
        ("heads: 2}", "heads: two}", "6:59: base.model.heads: expected an integer, got 'two'", None),
        ("lr: 1e-3", "lr: -1", "8:32: base.optimizer.lr: expected a number above 0, got -1", None),
        (
            "  op: {attn_gain: 0.3, mlp_gain: 0.3}",
            "  op: {atn_gain: 0.3}",
            "16:8: blocks.op.atn_gain: unknown key",
            "did you mean attn_gain?",
        ),
        (
            "  op: {attn_gain: 0.3, mlp_gain: 0.3}",
            "  op: {attn_gain: 0.3, mlp_gain: 0.3}\n  opp: {}",
            "17:3: blocks.opp: unknown block opp",
            "did you mean op?",
        ),
        ("block: op", "block: pre-lm", "43:38: runs[1].block: unknown block pre-lm", "did you mean pre-ln?"),
        (
            "{smoke: {optimizer: {lr: 2e-3}, because: slow}}",
            "{smoke: {optimizer: {l: 2e-3}, because: slow}}",
            "44:83: runs[2].at.smoke.optimizer.l: unknown key",
            "did you mean lr?",
        ),
        (
            "{lr: 2e-3}, because: slow}",
            "{lr: 2e-3}}",
            "44:70: runs[2].at.smoke.because: required, but missing",
            None,
        ),
        (
            "note: the block of Sec 3",
            "sources: {model.width: code}",
            "43:71: runs[1].sources.model.width: names no value that the run sets at paper scale",
            None,
        ),
        (
            "label: slow, optimizer: {lr: 3e-4},",
            "label: slow, optimizer: {lr: 3e-4}, sources: {optimizer.eps: code},",
            "44:68: runs[2].sources.optimizer.eps: names no value that the run sets at paper scale",
            "did you mean optimizer.lr?",
        ),
        (
            "optimizer: {lr: 3e-4}, at: {smoke:",
            "sources: {optimizer.lr: code}, at: {smoke:",
            "44:45: runs[2].sources.optimizer.lr: names no value that the run sets at paper scale",
            None,
        ),
        ("name: toy-slow", "name: toy-op", "44:12: runs[2].name: toy-op is given twice", None),
        ("  steps: stated-v1\n", "", "10:10: base.steps: no source given, expected an entry steps in sources", None),
        (
            "  steps: stated-v1\n",
            "  steps: stated-v1\n  model.dpth: code\n",
            "25:3: sources.model.dpth: names no value of base or blocks",
            "did you mean model.width?",
        ),
        (
            "  steps: stated-v1\n",
            "  steps: stated\n",
            "24:10: sources.steps: expected stated-v1, stated-v2, code, inferred or a list, got 'stated'",
            "did you mean stated-v2?",
        ),
        ("schedule: {warmup_fraction: 0.05}", "schedule: 5", "9:13: base.schedule: expected a mapping, got 5", None),
        (
            "  smoke:\n    because: quick",
            "  smok:\n    because: quick",
            "31:3: scales.smok: expected smoke, laptop, workstation or paper",
            "did you mean smoke?",
        ),
    ],
)
def test_what_is_wrong_with_a_setting(change: Change, old: str, new: str, message: str, hint: str | None) -> None:
    change("settings/toy.yaml", old, new)
    assert failure() == (f"settings/toy.yaml:{message}", hint)


def test_a_setting_that_changed_is_read_again(root: Path, change: Change) -> None:
    assert load_setting("toy").title == "A toy"
    change("settings/toy.yaml", "title: A toy", "title: Another toy")
    assert load_setting("toy").title == "Another toy"
    with pytest.raises(SpecError, match="no setting tyo"):
        load_setting("tyo")


def test_run_of_a_setting_that_the_experiment_does_not_name(root: Path, change: Change) -> None:
    text = (
        (root / "settings" / "toy.yaml").read_text().replace("id: toy", "id: other").replace("name: toy-", "name: o-")
    )
    (root / "settings" / "other.yaml").write_text(text)
    assert catalogue()["o-op"][0].id == "other"
    change("fig1.yaml", "  - toy-pre", "  - o-pre")
    assert (
        failure()[0] == "fig1.yaml:9:5: runs[0]: o-pre is a run of setting other, which this experiment does not name"
    )
    change("fig1.yaml", "setting: toy", "setting: [toy, other]")
    assert load_experiment("fig1").settings == ["toy", "other"]
    change("fig1.yaml", "  - o-pre", "  - {name: mine, label: Mine, steps: 7}")
    assert failure()[0].endswith("expected the name of a run, since it could belong to toy or other")


def test_a_run_name_belongs_to_one_setting(root: Path) -> None:
    text = (root / "settings" / "toy.yaml").read_text().replace("id: toy", "id: other")
    (root / "settings" / "other.yaml").write_text(text)
    assert failure()[0] == "settings other and toy both have a run toy-pre"


def test_a_run_defined_in_two_experiments_is_an_error(root: Path, change: Change) -> None:
    change("fig1.yaml", "  - toy-pre", "  - {name: mine, label: Mine, steps: 7}")
    (root / "fig2.yaml").write_text((root / "fig1.yaml").read_text().replace("id: fig1\n", "id: fig2\n"))
    with pytest.raises(SpecError, match="fig1 and fig2 both define a run mine"):
        list_experiments()


def test_text_in_another_encoding(root: Path) -> None:
    (root / "fig1.yaml").write_bytes(b"title: \xff")
    assert failure() == ("fig1.yaml:1:1: expected text in UTF-8", None)


def test_a_file_that_is_no_mapping(root: Path) -> None:
    (root / "fig1.yaml").write_text("just words")
    assert failure() == ("fig1.yaml:1:1: expected a mapping, got 'just words'", None)


def test_an_experiment_without_a_setting_may_name_checkpoints(change: Change) -> None:
    change("fig1.yaml", "setting: toy", "setting: null")
    change("fig1.yaml", "kind: training", "kind: pretrained")
    assert load_experiment("fig1").settings == []


def test_what_a_setting_warns_of_at_a_scale() -> None:
    (sentence,) = cautions(load_experiment("fig4"), "laptop")
    assert sentence.startswith("In the setting of 1.2B the learning rate lies above the one that trains best")
    assert cautions(load_experiment("fig4"), "paper") == []
    assert len(cautions(load_experiment("v2-fig9"), "laptop")) == 1, "of its two settings one is at the best rate"


def test_what_two_settings_warn_of_alike_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = load_experiment("v2-fig9")
    assert len(figure.settings) == 2
    warning = load_setting("fineweb-7b")
    monkeypatch.setattr("reproduce.specs.load.load_setting", lambda name: warning)
    assert cautions(figure, "laptop") == [warning.scales["laptop"].caution]
