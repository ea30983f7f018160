"""Exported runs: their logits are equal in `transformers`, where an architecture of it fits, and in our own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from reproduce.checkpoints.exporting import export_run, is_opt
from reproduce.checkpoints.opening import open_checkpoint
from reproduce.config import TransformerConfig
from reproduce.errors import OfeError
from reproduce.jobs.worker import main
from reproduce.specs.runs import ResolvedRun
from reproduce.store.runs import RunFolder, Store
from reproduce.training.tasks import build_task
from reproduce.training.weights import load_weights
from tests.runs import tiny_run, write_text_folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_folder(tmp_path_factory.mktemp("text"))


def trained(text: Path, home: Path, name: str, *changes: str) -> tuple[ResolvedRun, RunFolder]:
    """A run of a few steps, whose biases and norms have moved, with its final weights."""
    run = tiny_run(text, "steps=4", "eval.every=4", *changes, name=name)
    folder = Store(home).create(run, keep=[4])
    assert main([str(folder.path)]) == 0
    return run, folder


OURS = [
    ("cp-preln", (), "OPTForCausalLM"),
    ("cp-preln", ("model.block.final_norm=ln", "model.biases=all", "model.activation=gelu"), "OPTForCausalLM"),
    ("cp-preln", ("model.tied=true", "model.embed_scale=1"), "OPTForCausalLM"),
    ("cp-preln", ("model.position_scale=3",), "OPTForCausalLM"),
    ("cp-postln", (), "OPTForCausalLM"),
    ("cp-preln", ("model.tied=true",), "OfeTransformer"),
    ("cp-preln", ("model.positions=rope",), "OfeTransformer"),
    ("cp-op", ("model.position_scale=3",), "OfeTransformer"),
    ("cp-presrms", (), "OfeTransformer"),
]


@pytest.mark.parametrize(("name", "changes", "architecture"), OURS)
def test_an_exported_run_gives_the_same_logits(
    name: str, changes: tuple[str, ...], architecture: str, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFE_HOME", str(tmp_path / "home"))
    run, folder = trained(text, tmp_path / "home", name, *changes)
    target = tmp_path / "exported"
    assert export_run(folder, 4, target) == architecture
    task, _ = build_task(run.training, torch.device("cpu"))
    load_weights(folder.weights_file(4), task.model)
    tokens = task.probe_batch(0)
    with torch.no_grad():
        expected = task.model(tokens)
    opened = open_checkpoint(str(target))
    assert torch.allclose(opened.logits(tokens), expected, atol=1e-5 * float(expected.abs().max()))
    assert opened.structure.depth == 2
    assert opened.tokenizer is not None
    ours = open_checkpoint(run.slug, store=Store(tmp_path / "home"))
    assert torch.equal(opened.tokens("x1 = f2(3, y4)"), ours.tokens("x1 = f2(3, y4)"))
    if architecture == "OPTForCausalLM":  # as anybody loads it
        plain = transformers.AutoModelForCausalLM.from_pretrained(target).eval()
        with torch.no_grad():
            assert torch.allclose(plain(tokens).logits, expected, atol=1e-5 * float(expected.abs().max()))
        assert transformers.AutoTokenizer.from_pretrained(target).decode([5, 6, 7])


def test_what_is_measured_of_an_exported_run_is_what_is_measured_of_the_run(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFE_HOME", str(tmp_path / "home"))
    run, folder = trained(text, tmp_path / "home", "cp-preln")
    export_run(folder, 4, tmp_path / "out")
    from reproduce.checkpoints.structure import observing
    from reproduce.measuring.observer import OutlierObserver

    tokens, readings = build_task(run.training, torch.device("cpu"))[0].probe_batch(0), []
    for model in (str(tmp_path / "out"), run.slug):
        opened, observer = open_checkpoint(model, store=Store(tmp_path / "home")), OutlierObserver()
        with observing(opened.module, opened.structure, observer):
            opened.forward(tokens)
        readings.append(observer.reading().by_layer("kurtosis"))
    assert readings[0] == pytest.approx(readings[1], rel=1e-4)
    trace = folder.read_trace()
    rows = trace[(trace.step == 4) & (trace.metric == "kurtosis")]
    assert readings[0] == pytest.approx(dict(zip(rows.layer, rows.value, strict=True)), rel=1e-4)


@pytest.mark.parametrize(
    "change",
    [{"positions": "rope"}, {"activation": "leaky-relu"}, {"block": {"pre_qk": "ln", "pre_v": "ln"}},
     {"block": {"pre_qk": "ln", "pre_v": "ln", "pre_mlp": "ln", "attn_gain": 0.5}},
     {"block": {"pre_qk": "ln", "pre_v": "ln", "pre_mlp": "ln", "mlp_input_scale": 2}}],
)  # fmt: skip
def test_what_opt_does_not_compute_is_no_opt(change: dict[str, object]) -> None:
    block = {"pre_qk": "ln", "pre_v": "ln", "pre_mlp": "ln"}
    plain = {"layers": 2, "width": 8, "heads": 2, "block": block}
    assert is_opt(TransformerConfig.model_validate(plain))
    assert not is_opt(TransformerConfig.model_validate(plain | change))


def test_a_folder_that_holds_something_is_not_written_over(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFE_HOME", str(tmp_path / "home"))
    _, folder = trained(text, tmp_path / "home", "cp-op")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").touch()
    with pytest.raises(OfeError, match="exists and is not an empty folder"):
        export_run(folder, 4, tmp_path / "full")
    with pytest.raises(OfeError, match="has not kept its weights of step 2"):
        export_run(folder, 2, tmp_path / "new")
    assert not (tmp_path / "new").exists()
