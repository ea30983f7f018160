from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from reproduce.config import (
    BlockConfig,
    EvalConfig,
    ImageData,
    MlpConfig,
    OptimizerConfig,
    ProbeConfig,
    RunConfig,
    ScheduleConfig,
    TextData,
    TransformerConfig,
    VitConfig,
)
from reproduce.job_config import JOB_KINDS, CheckpointParent, MeasureConfig, TextSample, kind_of
from reproduce.keys import NUMERICS_VERSION, SAME_BUT_FOR_ROUNDING, canonical, recipe_key, run_key
from reproduce.specs.problems import union_members
from reproduce.specs.runs import ResolvedRun, measurement, quantisation

OP = RunConfig(
    model=TransformerConfig(
        layers=6,
        width=256,
        heads=4,
        biases="qk",
        embed_scale=50.0,
        block=BlockConfig(post_qk="rms", attn_gain=0.3, mlp_gain=0.3),
    ),
    data=TextData(source="python-stdlib", seq_len=128, vocab_size=2048, fingerprint="0123abcd"),
    optimizer=OptimizerConfig(lr=5e-3, weight_decay=0.1),
    schedule=ScheduleConfig(warmup_fraction=0.05),
    steps=2000,
    batch_size=8,
    grad_clip=1.0,
    precision="bf16",
    probe=ProbeConfig(every=50, batch_size=32),
    eval=EvalConfig(every=200, batches=8),
)
MLP = RunConfig(
    model=MlpConfig(layers=6, width=1024, norm="srms"),
    data=ImageData(source="cifar10", whiten=True),
    optimizer=OptimizerConfig(name="sgd", lr=3.0),
    schedule=ScheduleConfig(kind="cosine", warmup_steps=200),
    steps=5000,
    batch_size=2048,
    seed=2,
    probe=ProbeConfig(every=25, batch_size=2048),
    eval=EvalConfig(every=25, batches=5),
)
VIT = MLP.model_copy(update={"model": VitConfig(layers=12, width=768, heads=12)})


def test_keys_stay_where_they_are() -> None:
    """Neither a new field with a default nor a component told apart later ("divergence") moves these."""
    assert run_key(OP) == "59a21fbac8fad1f4"
    assert recipe_key(OP) == "abf235dfbaf06b0b"
    assert run_key(MLP) == "eeae3413f911ee7c"
    assert run_key(VIT) == "ee59fc5c1f5e1166"


def test_what_is_hashed() -> None:
    assert canonical(MLP) == {
        "config": {
            "model": {"kind": "mlp", "layers": 6, "width": 1024, "norm": "srms"},
            "data": {"kind": "images", "source": "cifar10", "whiten": True},
            "optimizer": {"name": "sgd", "lr": 3.0},
            "schedule": {"kind": "cosine", "warmup_steps": 200},
            "steps": 5000,
            "batch_size": 2048,
            "seed": 2,
            "probe": {"every": 25, "batch_size": 2048},
            "eval": {"every": 25, "batches": 5},
        },
        "numerics": {"mlp": 2, "images": 1, "sgd": 1, "schedule": 1, "probe": 1, "train": 1},
    }


def test_a_default_written_out_is_the_same_run() -> None:
    body = OP.model_dump(mode="json")
    assert run_key(RunConfig.model_validate(body)) == run_key(OP)
    assert body["optimizer"]["beta1"] == 0.9


def test_a_number_is_one_number_however_it_is_written() -> None:
    body = OP.model_dump(mode="json")
    body["grad_clip"] = 1
    body["model"]["embed_scale"] = 50
    assert run_key(RunConfig.model_validate(body)) == run_key(OP)


# ---------------------------------------------------------------------------------------------------
# Sensitivity: each field changed by itself


def changes(model: BaseModel, path: str = "") -> Iterator[tuple[str, BaseModel]]:
    """`model` with one leaf changed, for each leaf but the tags of unions; validators are bypassed on purpose."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            for place, inner in changes(value, f"{path}{name}."):
                yield place, model.model_copy(update={name: inner})
        elif name != "kind" or isinstance(model, ScheduleConfig):
            yield f"{path}{name}", model.model_copy(update={name: other(value, field.annotation)})


def other(value: Any, annotation: Any) -> Any:
    member = union_members(annotation)[0]
    if get_origin(member) is Literal:
        return next(choice for choice in get_args(member) if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return {str: f"{value}x", int: 1, float: 1.0}[member]


CHANGED = [
    pytest.param(base, changed, id=f"{base.model.kind}-{path}")
    for base in (OP, MLP, VIT)
    for path, changed in changes(base)
    if path != "data.path"
]


@pytest.mark.parametrize(("base", "changed"), CHANGED)
def test_every_field_moves_the_key(base: RunConfig, changed: RunConfig) -> None:
    assert run_key(changed) != run_key(base)


def test_where_data_lies_is_left_out_once_they_are_identified() -> None:
    def moved(fingerprint: str, path: str) -> str:
        data = OP.data.model_copy(update={"fingerprint": fingerprint, "path": path})
        return run_key(OP.model_copy(update={"data": data}))

    assert moved("abc", "here") == moved("abc", "there")
    assert moved("", "here") != moved("", "there")


def test_the_walk_reaches_every_field() -> None:
    paths = {path for path, _ in changes(OP)}
    assert {"seed", "precision", "model.block.tanh_cap", "schedule.kind", "data.fingerprint", "grad_clip"} <= paths
    assert len(paths) > 45


@pytest.mark.parametrize(("base", "changed"), CHANGED)
def test_a_recipe_is_the_run_without_fingerprint_and_precision(base: RunConfig, changed: RunConfig) -> None:
    data = changed.data.model_copy(update={"fingerprint": base.data.fingerprint})
    same = changed.model_copy(update={"data": data, "precision": base.precision}) == base
    assert (recipe_key(changed) == recipe_key(base)) == same


@pytest.mark.parametrize("component", NUMERICS_VERSION)
def test_a_new_numerics_version_retires_the_runs_that_use_it(component: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bases = [base.model_copy(update={"optimizer": optimizer}) for base in (OP, MLP, VIT) for optimizer in OPTIMIZERS]
    before = [run_key(base) for base in bases]
    monkeypatch.setitem(NUMERICS_VERSION, component, 9)
    moved = [run_key(base) != old for base, old in zip(bases, before, strict=True)]
    always = ("schedule", "probe", "divergence", "train")
    uses = [component in (base.model.kind, base.data.kind, base.optimizer.name, *always) for base in bases]
    assert moved == uses
    assert any(uses) == (component not in ("checkpoint", "quantise"))


CHECKPOINT = CheckpointParent(form="folder", name="mine", path="/here", fingerprint="f1")
ON_TEXT = MeasureConfig(parent=CHECKPOINT, text=TextSample(source="file", path="/a", fingerprint="t1"), examples=8)


@pytest.mark.parametrize(
    ("parent", "text", "same"),
    [
        ({"path": "/there", "name": "renamed", "allow_pickle": True, "trust_remote_code": True}, {}, True),
        ({}, {"path": "/b"}, True),
        ({"fingerprint": "f2"}, {}, False),
        ({}, {"fingerprint": "t2"}, False),
        ({}, {"seq_len": 256}, False),
        ({"form": "hub", "path": None}, {}, False),
    ],
)
def test_a_checkpoint_is_keyed_by_what_it_holds(parent: dict[str, object], text: dict[str, object], same: bool) -> None:
    assert ON_TEXT.text is not None
    changed = ON_TEXT.model_copy(
        update={
            "parent": CHECKPOINT.model_copy(update=parent),
            "text": ON_TEXT.text.model_copy(update=text),
        }
    )
    assert (run_key(changed) == run_key(ON_TEXT)) == same


def test_a_commit_is_keyed_whatever_leads_to_it_and_its_recipe_is_the_name_and_revision() -> None:
    hub = CheckpointParent(form="hub", name="owner/model", revision="main", fingerprint="c1")

    def key(**change: object) -> tuple[str, str]:
        config = ON_TEXT.model_copy(update={"parent": hub.model_copy(update=change)})
        return run_key(config), recipe_key(config)

    plain = key()
    assert key(revision="v1")[0] == plain[0]
    assert key(fingerprint="c2")[0] != plain[0]
    assert key(fingerprint="c2")[1] == key(fingerprint="")[1] == plain[1]
    assert key(revision="v1")[1] != plain[1]


def test_a_new_numerics_version_of_checkpoints_retires_their_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    before = run_key(ON_TEXT)
    monkeypatch.setitem(NUMERICS_VERSION, "checkpoint", 2)
    assert run_key(ON_TEXT) != before


def test_a_version_that_rounds_otherwise_keeps_the_recipe_and_one_that_computes_otherwise_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = recipe_key(OP)
    later = NUMERICS_VERSION["transformer"] + 1
    monkeypatch.setitem(NUMERICS_VERSION, "transformer", 1)
    assert recipe_key(OP) == recipe
    monkeypatch.setitem(NUMERICS_VERSION, "transformer", later)
    assert recipe_key(OP) != recipe
    monkeypatch.setitem(SAME_BUT_FOR_ROUNDING, ("transformer", later), 1)
    assert recipe_key(OP) == recipe


OPTIMIZERS = [
    OptimizerConfig(name="adamw", lr=1e-3),
    OptimizerConfig(name="sgd", lr=1e-3),
    OptimizerConfig(name="adafactor", lr=1e-3),
    OptimizerConfig(name="soap", lr=1e-3),
    OptimizerConfig(name="adafactor-rotated", lr=1e-3),
]


def test_keys_are_sixteen_hexadecimal_digits() -> None:
    assert len(run_key(OP)) == 16
    assert int(run_key(OP), 16) >= 0


def test_a_job_that_starts_from_a_training_is_told_from_it_in_every_way() -> None:
    """Its key finds it in the store, its recipe among the references, its slug in a listing."""
    training = ResolvedRun("cp-op", "OP", "codeparrot-130m", "smoke", 0, OP, paper_data=False)
    children = {"measure": measurement(training, 3), "quantise": quantisation(training, 3, rows=["tensor"])}
    assert set(children) | {"train"} == set(JOB_KINDS)
    for kind, child in children.items():
        assert kind_of(child.config) == kind
        assert (child.key != training.key, child.recipe != training.recipe) == (True, True), kind
        assert child.slug.startswith(f"{training.slug}-"), kind
    assert measurement(training, 4).slug != measurement(training, 3).slug
