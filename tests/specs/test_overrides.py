from __future__ import annotations

import re
from typing import Any

import pytest

from reproduce.errors import SpecError
from reproduce.specs.fields import check_value, children, leaves, sections, takes_null, takes_text
from reproduce.specs.overrides import parse_overrides


@pytest.mark.parametrize(
    ("items", "tree"),
    [
        ([], {}),
        (["lr=3e-4"], {"optimizer": {"lr": 3e-4}}),
        (["optimizer.lr=1e-3", "beta1=0"], {"optimizer": {"lr": 1e-3, "beta1": 0}}),
        (["model.width=128", "layers=3"], {"model": {"width": 128, "layers": 3}}),
        (["pre_qk=rms"], {"model": {"block": {"pre_qk": "rms"}}}),
        (["block=op"], {"block": "op"}),
        (["steps=10", "steps=20"], {"steps": 20}),
        (["batch_size=4"], {"batch_size": 4}),
        (["model.tied=true"], {"model": {"tied": True}}),
        (["probe.batch_size=4"], {"probe": {"batch_size": 4}}),
        (["grad_clip=null"], {"grad_clip": None}),
        (["grad_clip="], {"grad_clip": None}),
        (["precision=auto"], {"precision": "auto"}),
        (["data.path=/a=b c"], {"data": {"path": "/a=b c"}}),
        (["mlp_input_scale=unit-preactivation"], {"model": {"block": {"mlp_input_scale": "unit-preactivation"}}}),
        (["moment_updates_layer = 2"], {"probe": {"moment_updates_layer": 2}}),
    ],
)
def test_items_become_a_nested_mapping(items: list[str], tree: dict[str, Any]) -> None:
    assert parse_overrides(items) == tree


@pytest.mark.parametrize(
    "typed",
    [
        "/data/my #1 set",
        "#1",
        "# all of it",
        "a: b",
        "a:",
        "- a",
        "[x]",
        "[x",
        "{y}",
        "{y: 1}",
        "*z",
        "&a",
        "&a b",
        "!t",
        "!!int 3",
        "yes",
        "true",
        "no",
        "3",
        "1e3",
        "0x10",
        ".inf",
        ".nan",
        "2024-01-01",
        "@x",
        "`x`",
        "%x",
        "|",
        ">",
        "---",
        "? a",
        "C:\\new\\x",
        "a\tb",
        "a=b=c",
        "it's",
        "'odd'name'",
        "'a' # b'",
        '"a" and "b"',
        "'",
        "~/data",
        "nullable",
        "<<",
        "naïve Ø 数",
    ],
)
def test_a_text_is_taken_as_it_is_typed(typed: str) -> None:
    assert parse_overrides([f"data.path={typed}"]) == {"data": {"path": typed}}
    assert parse_overrides([f"data.path = {typed} "]) == {"data": {"path": typed}}


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("'quoted'", "quoted"),
        ('"quoted"', "quoted"),
        ("' /blanks '", " /blanks "),
        ('  "x"  ', "x"),
        ("'it''s'", "it's"),
        (r'"a\tb \"c\" \\"', 'a\tb "c" \\'),
        ("'null'", "null"),
        ("''", ""),
        ("'#1'", "#1"),
        ("", None),
        (" ", None),
        ("null", None),
        ("Null", None),
        ("~", None),
    ],
)
def test_a_quoted_text_is_read_as_yaml_and_null_is_no_value(typed: str, value: str | None) -> None:
    assert parse_overrides([f"data.path={typed}"]) == {"data": {"path": value}}


def test_a_text_that_must_be_there_is_never_null() -> None:
    assert parse_overrides(["data.source=null"]) == {"data": {"source": "null"}}
    assert parse_overrides(["data.source=~"]) == {"data": {"source": "~"}}


@pytest.mark.parametrize(
    ("item", "got"),
    [
        ("optimizer.name=adamw # the usual", "'adamw # the usual'"),
        ("optimizer.name=3", "'3'"),
        ("optimizer.name=[adamw]", "'[adamw]'"),
        ("optimizer.name=", "''"),
        ("optimizer.name=null", "'null'"),
    ],
)
def test_a_word_of_several_is_a_text_too(item: str, got: str) -> None:
    with pytest.raises(SpecError, match=rf"--set optimizer\.name: expected adamw, .* got {re.escape(got)}"):
        parse_overrides([item])
    assert parse_overrides(["optimizer.name = 'soap'"]) == {"optimizer": {"name": "soap"}}


@pytest.mark.parametrize(
    ("item", "tree"),
    [
        ("lr=1e-3 # faster", {"optimizer": {"lr": 1e-3}}),
        ("steps=0x10", {"steps": 16}),
        ("model.tied=True", {"model": {"tied": True}}),
        ("mlp_input_scale=0.5", {"model": {"block": {"mlp_input_scale": 0.5}}}),
        ("tanh_cap=~", {"model": {"block": {"tanh_cap": None}}}),
    ],
)
def test_anything_else_is_read_as_yaml(item: str, tree: dict[str, Any]) -> None:
    assert parse_overrides([item]) == tree


@pytest.mark.parametrize(
    ("item", "message", "hint"),
    [
        ("lr", "--set lr gives no value", "write --set key=value"),
        ("l_r=1", "--set l_r names no value of a run", "did you mean lr?"),
        ("model.widht=1", "--set model.widht names no value of a run", "did you mean model.width?"),
        ("qqqq=1", "--set qqqq names no value of a run", "see `ofe show`"),
        ("every=5", "--set every could mean several values", "write one of probe.every, eval.every"),
        ("kind=mlp", "--set kind could mean several values", "write one of model.kind, data.kind, schedule.kind"),
        ("eval=5", "--set eval holds several values", "set one of eval.every, eval.batches"),
        ("seed=5", "--set seed is not possible: seeds are counted from 0", "write --seeds N"),
        ("data.fingerprint=x", "--set data.fingerprint names no value of a run", None),
        ("lr=fast", "--set optimizer.lr: expected a number, got 'fast'", None),
        ("embed_scale=.nan", "--set model.embed_scale: expected a finite number, got nan", None),
        ("steps=.inf", "--set steps: expected a finite number, got inf", None),
        ("lr=0", "--set optimizer.lr: expected a number above 0, got 0", None),
        ("lr=[1, 2]", "--set optimizer.lr: expected a number", None),
        ("steps=true", "--set steps: expected a number, got true", None),
        ("lr=false", "--set optimizer.lr: expected a number, got false", None),
        ("layers=100000000", "--set model.layers: expected a number of at most 10000, got 100000000", None),
        ("block=oop", "--set block: unknown block oop", "did you mean op?"),
        (
            "schedule.kind=liner",
            "--set schedule.kind: expected linear, cosine, wsd or constant, got 'liner'",
            "did you mean linear?",
        ),
    ],
)
def test_what_is_wrong_with_an_item(item: str, message: str, hint: str | None) -> None:
    with pytest.raises(SpecError) as caught:
        parse_overrides([item])
    assert caught.value.message == message
    if hint is not None:
        assert caught.value.hint == hint


def test_which_fields_hold_text() -> None:
    assert {path for path in leaves() if takes_text(path)} == {
        *("block", "precision", "optimizer.name", "optimizer.placement", "schedule.kind"),
        *("probe.point", "probe.on"),
        *("model.kind", "model.norm", "model.activation", "model.positions", "model.biases"),
        *(f"model.block.{place}" for place in ("pre_qk", "pre_v", "pre_mlp", "post_qk", "post_norm", "final_norm")),
        *("model.block.gains", "data.kind", "data.source", "data.path", "data.dataset", "data.subset", "data.column"),
        "data.packing",
    }
    assert [path for path in leaves() if takes_text(path) and takes_null(path)] == [
        *("block", "data.path", "data.dataset", "data.subset", "data.column", "precision")
    ]


def test_every_leaf_is_a_path_that_can_be_set() -> None:
    assert {"block", "optimizer.lr", "model.block.post_qk", "model.norm", "model.patch", "data.side"} <= leaves().keys()
    assert "seed" not in leaves()
    assert sections() == {"model", "model.block", "data", "data.augment", "optimizer", "schedule", "probe", "eval"}
    assert children("eval") == ("every", "batches")
    assert {"block", "steps", "model", "eval"} <= set(children(""))


def test_a_value_may_suit_any_kind_that_has_the_field() -> None:
    assert not list(check_value("model.activation", "leaky-relu", ()))  # transformers only
    assert not list(check_value("model.kind", "vit", ()))
    assert [problem.text for problem in check_value("model.kind", "cnn", ())] == [
        "expected transformer, mlp or vit, got 'cnn'"
    ]
    assert [problem.nearest for problem in check_value("model.activation", "geluu", ())] == ["gelu"]
