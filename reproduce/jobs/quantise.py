"""The work of a quantisation: it quantises weights that a training has kept, or a checkpoint, in many ways.

    split "eval"      loss in full precision; perplexity by the published protocol, mean and s.d. over calibration seeds
    split "probe"     metrics of the model in full precision, layer by layer, as its training measured them
    split "rows"      ROW/loss, ROW/ppl, ROW/weight_bits and ROW/flops of each row that applies
    split "tensors"   LAYER.TENSOR/sqnr_db and LAYER.TENSOR/kl of each tensor, quantised alone

Why a method does not apply, and the perplexity of each calibration seed, are in the provenance.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reproduce.checkpoints.checkpoint import Checkpoint
from reproduce.checkpoints.measuring import measure_checkpoint, sequences
from reproduce.checkpoints.opening import load
from reproduce.checkpoints.tokenizers import run_tokenizer
from reproduce.config import TextData
from reproduce.data import open_text
from reproduce.data.hub import may_not_download
from reproduce.data.text.sample import open_sample
from reproduce.environment import environment
from reproduce.errors import OfeError
from reproduce.job_config import CheckpointParent, MeasureConfig, QuantiseConfig, RunParent, TextSample
from reproduce.jobs.device import as_many_threads_as, pick_device
from reproduce.jobs.lineage import parent_folder
from reproduce.jobs.measure import TrainedModel
from reproduce.measuring.observer import STREAM
from reproduce.measuring.probe import Probe, measure
from reproduce.processes import StopAsked
from reproduce.quantise.decoder import decoder_of
from reproduce.quantise.linears import with_plain_linears
from reproduce.quantise.study import Findings, Subject, perplexity, study
from reproduce.store.runs import RunFolder, Store
from reproduce.store.trace import TraceWriter
from reproduce.training.language import LanguageTask
from reproduce.training.tasks import build_task
from reproduce.training.train import Interrupted
from reproduce.training.weights import load_weights

CALIBRATION_SEED = 1_000_000
"""Seed of the order of the first calibration subset. Trainings have small seeds, so that no order is theirs."""
BATCH_TOKENS = 2048
"""Tokens in one forward pass of the evaluation of a checkpoint."""
OTHER_TEXT = {"python-prose": "python-stdlib"}
"""Source of a training -> another text for the study of calibration sets; of all others it is the embedded prose."""

Values = dict[str, dict[str, float]]
"""Metric -> layer -> value."""


def work(folder: RunFolder, config: QuantiseConfig, stop: StopAsked) -> dict[str, Any]:
    """Quantise the model that `config` names, write the trace to `folder`, and return its provenance.

    Raises:
        Interrupted: `stop` returned True. No state is saved.
        OfeError: the model or its text is not there, has too few sequences, or is no language model.
    """
    begin = time.perf_counter()
    made = _of_run(folder, config) if isinstance(config.parent, RunParent) else _of_checkpoint(folder, config)
    subject, probed, about = made
    found = study(subject, config, stop)
    if found is None:
        raise Interrupted(config.last_step)
    _write(folder, config.last_step, found, probed)
    return about | {
        "seconds": time.perf_counter() - begin,
        "trained_steps": 0,
        "parameters": sum(parameter.numel() for parameter in subject.model.parameters()),
        "precision": "fp32",
        "quantised": {
            "ppl": perplexity(found.loss),
            "rows": found.rows,
            "widths": {str(bits): ppl for bits, ppl in found.widths.items()},
            "quantisers": found.quantisers,
            "tensors": found.tensors,
        },
    }


def _write(folder: RunFolder, step: int, found: Findings, probed: Values) -> None:
    numbers = ("loss", "ppl", "weight_bits", "flops")
    rows = {f"{row}/{name}": values[name] for row, values in found.rows.items() for name in numbers if name in values}
    tensors = {
        f"{one['layer']}.{one['tensor']}/{name}": one[name]
        for one in found.tensors
        for name in ("sqnr_db", "kl")
        if one[name] is not None
    }
    with TraceWriter(folder.path) as writer:
        writer.record(step, "eval", {"loss": found.loss, **found.width_metrics()})
        for split, values in (("probe", probed), ("rows", rows), ("tensors", tensors)):
            if values:
                writer.record(step, split, values)


# ---------------------------------------------------------------------------------------------------
# Runs


def _of_run(folder: RunFolder, config: QuantiseConfig) -> tuple[Subject, Values, dict[str, Any]]:
    """A training's model, the metrics of its streams, and what provenance says of it."""
    assert isinstance(config.parent, RunParent)
    parent = parent_folder(folder, config.parent)
    as_many_threads_as(parent)
    training = parent.training().model_copy(update={"precision": "fp32"})
    if not isinstance(training.data, TextData):
        raise OfeError(f"{parent.slug} is a model of images: its perplexity cannot be measured",
                       hint="name a language model", exit_code=2)  # fmt: skip
    device = pick_device()
    task, data = build_task(training, device)
    assert isinstance(task, LanguageTask)
    task.model.to(device)
    load_weights(parent.weights_file(config.parent.step), task.model)
    probed = measure(TrainedModel(task), [task.probe_batch(0)], Probe(training.probe.point)).values

    corpus, size = open_text(training.data), min(training.batch_size, config.examples)
    count, width = config.calibration_batches, config.calibration_batch_size
    evaluation = [torch.from_numpy(corpus.eval_batch(index, size)) for index in range(config.examples // size)]

    def calibration(seed: int) -> list[Tensor]:
        order = CALIBRATION_SEED + seed
        return [torch.from_numpy(corpus.batch(order, step, width)).to(device) for step in range(count)]

    random = torch.randint(
        0, training.data.vocab_size, (count, width, training.data.seq_len), generator=torch.Generator().manual_seed(0)
    )
    subject = Subject(
        decoder_of(task.model).to(device),
        lambda model, tokens: model(tokens.to(device)),
        evaluation,
        calibration,
        _other_text(parent, training.data, count, width) if _studies_sets(config) else (),
        list(random.to(device)),
    )
    parented = {"name": parent.path.name, "step": config.parent.step}
    return subject, dict(probed), {"data": data, "parent": parented}


def _studies_sets(config: QuantiseConfig) -> bool:
    return any(row.endswith("other-text") for row in config.rows)


def _other_text(parent: RunFolder, data: TextData, count: int, width: int) -> Sequence[Tensor]:
    """Batches of another embedded text in the run's own tokens; none if its tokenizer is not on this machine."""
    tokenizer = run_tokenizer(parent)
    if tokenizer is None:
        return ()
    device, wanted, ids = pick_device(), count * width * data.seq_len, list[int]()
    for documents in open_sample(TextSample(source=OTHER_TEXT.get(data.source, "python-prose"))):
        for document in documents:
            ids += tokenizer.encode(document, add_special_tokens=False).ids
            if len(ids) >= wanted:
                return list(torch.tensor(ids[:wanted]).view(count, width, data.seq_len).to(device))
    return ()


# ---------------------------------------------------------------------------------------------------
# Checkpoints


def _of_checkpoint(folder: RunFolder, config: QuantiseConfig) -> tuple[Subject, Values, dict[str, Any]]:
    """A checkpoint from elsewhere: its text is cut into calibration sequences, and then those of the evaluation."""
    parent, text = config.parent, config.text
    assert isinstance(parent, CheckpointParent)
    assert text is not None
    device, offline = pick_device(), may_not_download(False)
    opened = load(
        parent, store=Store.of(folder), dtype="float32", device=device, offline=offline,
        allow_pickle=parent.allow_pickle, trust_remote_code=parent.trust_remote_code,
    )  # fmt: skip
    if opened.structure.head is None:
        raise OfeError(f"{parent.name} predicts no tokens, so that it has no perplexity",
                       hint="name a decoder with its language-modelling head", exit_code=2)  # fmt: skip
    count, width = config.calibration_batches, config.calibration_batch_size
    tokens = sequences(opened, text, count * width + config.examples, offline=offline)
    calibration, evaluation = tokens[: count * width], tokens[count * width :]
    measuring = MeasureConfig(parent=parent, text=text, examples=config.examples)
    probed = measure_checkpoint(opened, evaluation, measuring, batch=environment().micro_batch)
    values: Values = {}
    if probed is not None:
        for point, layer, columns in probed.reading.layers:
            if point == STREAM:
                values.setdefault("kurtosis", {})[layer] = columns["all"]["kurtosis"]
    subject = Subject(
        with_plain_linears(copy.deepcopy(opened.module)).requires_grad_(False),
        _runner(opened),
        list(evaluation.split(max(1, BATCH_TOKENS // text.seq_len))),
        lambda seed: list(calibration.to(device).split(width)),
    )
    data = {"source": text.source, "description": "", "fingerprint": text.fingerprint}
    return subject, values, {"data": data}


def _runner(opened: Checkpoint) -> Any:
    """Runs the module of a checkpoint, or a changed copy of it, and gives its logits."""
    device, caches = opened.device, hasattr(getattr(opened.module, "config", None), "use_cache")

    def logits(model: nn.Module, tokens: Tensor) -> Tensor:
        options = {"use_cache": False} if caches else {}
        return model(input_ids=tokens.to(device), **options).logits

    return logits
