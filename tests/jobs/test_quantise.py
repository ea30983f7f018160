"""Quantisations: of a run that was trained here, and of a checkpoint in the format of the hub."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from reproduce.checkpoints.identity import locate
from reproduce.data import open_text
from reproduce.data.text.sample import identified
from reproduce.errors import OfeError
from reproduce.job_config import CheckpointParent, QuantiseConfig, RunParent, TextSample
from reproduce.jobs.quantise import work
from reproduce.jobs.worker import main
from reproduce.quantise import protocol
from reproduce.quantise.decoder import Decoder, decoder_of
from reproduce.quantise.evaluation import mean_loss
from reproduce.quantise.rows import CAUSES
from reproduce.specs.runs import ResolvedRun, checkpoint_quantisation, quantisation
from reproduce.store.runs import RunFolder, Store
from reproduce.training.tasks import build_task
from reproduce.training.weights import load_weights
from tests.runs import tiny_run, write_text_folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[ResolvedRun, RunFolder]:
    """A run that kept its final weights."""
    run = tiny_run(write_text_folder(tmp_path_factory.mktemp("text")))
    folder = Store(tmp_path_factory.mktemp("home")).create(run, keep=[20])
    assert main([str(folder.path)]) == 0
    return run, folder


@pytest.fixture(scope="module")
def quantised(trained: tuple[ResolvedRun, RunFolder]) -> RunFolder:
    run, folder = trained
    config = {"rows": [*CAUSES, "keys-64", "published-other-text"], "widths": [8, 4], "seeds": 2, "tensors": 3}
    own = Store.of(folder).create(quantisation(run, 20, calibration_batch_size=2, **config))
    assert main([str(own.path)]) == 0
    return own


def values(folder: RunFolder, split: str) -> dict[str, float]:
    trace = folder.read_trace()
    rows = trace[(trace.split == split) & (trace.layer == "")]
    return dict(zip(rows.metric, rows.value, strict=True))


def test_the_loss_in_full_precision_is_that_of_the_training(
    trained: tuple[ResolvedRun, RunFolder], quantised: RunFolder
) -> None:
    trace = trained[1].read_trace()
    there = trace[(trace.split == "eval") & (trace.metric == "loss") & (trace.step == 20)].value.item()
    assert values(quantised, "eval")["loss"] == pytest.approx(there, rel=1e-5)


def test_kurtosis_is_that_of_the_training(trained: tuple[ResolvedRun, RunFolder], quantised: RunFolder) -> None:
    ours, theirs = (
        folder.read_trace().query("split == 'probe' and metric == 'kurtosis' and step == 20").value.tolist()
        for folder in (quantised, trained[1])
    )
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_the_published_protocol_is_that_of_the_room(
    trained: tuple[ResolvedRun, RunFolder], quantised: RunFolder
) -> None:
    """Recomputed here from the kept weights: the second calibration seed at 4 bits."""
    run, folder = trained
    training, data = run.training, run.training.data
    task, _ = build_task(training, torch.device("cpu"))
    load_weights(folder.weights_file(20), task.model)
    corpus = open_text(data)
    batches = [torch.from_numpy(corpus.batch(1_000_001, step, 2)) for step in range(4)]
    made = protocol.quantise(decoder_of(task.model), 4, 4).calibrate(batches)
    size = training.batch_size
    evaluation = [torch.from_numpy(corpus.eval_batch(index, size)) for index in range(training.eval.batches)]
    wanted = torch.tensor(mean_loss(made.decoder, evaluation, lambda model, tokens: model(tokens))).exp()
    said = quantised.provenance()["quantised"]
    assert said["widths"]["4"][1] == pytest.approx(float(wanted), rel=1e-5)
    assert said["quantisers"] == len(made)
    assert isinstance(made.decoder, Decoder)


def test_the_trace_has_means_over_calibration_seeds(quantised: RunFolder) -> None:
    said, found = quantised.provenance()["quantised"], values(quantised, "eval")
    for bits in (8, 4):
        first, second = said["widths"][str(bits)]
        assert found[f"w{bits}a{bits}_ppl"] == pytest.approx((first + second) / 2)
        assert found[f"w{bits}a{bits}_ppl_std"] == pytest.approx(abs(first - second) / 2**0.5)
    assert first != second, "each seed has another calibration subset"


def test_rows_and_tensors_are_recorded_and_refusals_say_why(quantised: RunFolder) -> None:
    rows, said = values(quantised, "rows"), quantised.provenance()["quantised"]
    assert {name.partition("/")[0] for name in rows} == {*CAUSES, *(said["rows"].keys() - {"keys-64"} - set(CAUSES))}
    assert "no multiple of 64" in said["rows"]["keys-64"]["refused"]
    assert rows["tensor/ppl"] == pytest.approx(rows["integers/ppl"], rel=1e-3)
    tensors = said["tensors"]
    assert [one["sqnr_db"] for one in tensors] == sorted(one["sqnr_db"] for one in tensors)
    assert [one["kl"] is None for one in tensors[:4]] == [False, False, False, True]
    assert all(one["kl"] >= 0 for one in tensors[:3])


def test_other_widths_rows_and_seeds_are_other_jobs(trained: tuple[ResolvedRun, RunFolder]) -> None:
    run = trained[0]
    jobs = [
        quantisation(run, 20, widths=[8]),
        quantisation(run, 20, widths=[6]),
        quantisation(run, 20, widths=[8], seeds=2),
        quantisation(run, 20, rows=["tensor"]),
        quantisation(run, 20, rows=["tensor"], weights=4),
        quantisation(run, 5, rows=["tensor"]),
    ]
    assert len({job.key for job in jobs}) == len({job.recipe for job in jobs}) == 6
    assert jobs[0].slug == f"{run.slug}-quantised-at-20"


def test_what_a_quantisation_needs() -> None:
    run = RunParent(key="0" * 16, step=1)
    with pytest.raises(ValueError, match="nothing to evaluate"):
        QuantiseConfig(parent=run, examples=1)
    with pytest.raises(ValueError, match="on its own text"):
        QuantiseConfig(parent=run, examples=1, rows=("tensor",), text=TextSample())
    with pytest.raises(ValueError, match="rows"):
        QuantiseConfig.model_validate({"parent": run, "examples": 1, "rows": ["w5"]})
    checkpoint = CheckpointParent(form="folder", name="x", path="/x")
    with pytest.raises(ValueError, match="leave out widths"):
        QuantiseConfig(parent=checkpoint, examples=1, widths=(8,), text=TextSample())


# -- checkpoints ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["Llama", "GPT2", "OPT"])
def test_a_checkpoint_is_quantised_on_text(family: str, tmp_path: Path) -> None:
    """Linear layers of any decoder, GPT-2's transposed ones among them, and rows of our own models are refused."""
    tiny = pytest.importorskip("tests.checkpoints.tiny", reason="transformers is not installed")
    folder = tiny.save(tiny.build(family), tmp_path / "model")
    text = tmp_path / "words.txt"
    text.write_text("one two three four five six seven eight nine ten " * 100)
    sample = identified(TextSample(source="file", path=str(text), seq_len=32))
    config = {"rows": ["tensor", "integers", "first-token", "smoothquant", "quarot", "published"], "tensors": 2}
    parent = locate(str(folder))
    assert isinstance(parent, CheckpointParent)
    job = checkpoint_quantisation(parent, sample, 4, calibration_batches=1, calibration_batch_size=2, **config)
    own = Store(tmp_path / "home").create(job)
    assert main([str(own.path)]) == 0
    rows, said = values(own, "rows"), own.provenance()["quantised"]["rows"]
    assert "place at each tensor" in said["published"]["refused"]
    assert rows["tensor/ppl"] == pytest.approx(rows["integers/ppl"], rel=1e-3)
    wanted = values(own, "eval")["loss"]
    for row in ("tensor", "first-token", "smoothquant", "quarot"):
        assert rows[f"{row}/loss"] != wanted
        assert rows[f"{row}/loss"] == pytest.approx(wanted, abs=0.1)
    layers = 3 * {"Llama": 7, "GPT2": 4, "OPT": 6}[family]
    assert len(own.provenance()["quantised"]["tensors"]) == 2 * layers


def test_an_encoder_has_no_perplexity(tmp_path: Path) -> None:
    tiny = pytest.importorskip("tests.checkpoints.tiny", reason="transformers is not installed")
    parent = locate(str(tiny.save(tiny.build("Bert"), tmp_path / "model")))
    assert isinstance(parent, CheckpointParent)
    own = Store(tmp_path / "home").create(checkpoint_quantisation(parent, TextSample(seq_len=16), 2, rows=["tensor"]))
    config = own.config()
    assert isinstance(config, QuantiseConfig)
    with pytest.raises(OfeError, match="predicts no tokens"):
        work(own, config, lambda: False)
