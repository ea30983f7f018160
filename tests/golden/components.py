"""A handful of numbers of each component of `NUMERICS_VERSION`, in float32 from fixed seeds.

Each function uses no other component where that is possible, so that a number that moves says which one moved; the
"train" component, which is the loop around all others, names those it builds on in `BUILDS_ON`.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reproduce.cadence import moment_steps, probe_steps
from reproduce.config import (
    AugmentConfig,
    BlockConfig,
    MlpConfig,
    OptimizerConfig,
    RunConfig,
    ScheduleConfig,
    TextData,
    TransformerConfig,
    VitConfig,
)
from reproduce.data import open_images, open_text
from reproduce.measuring.moment_updates import MomentUpdates
from reproduce.measuring.observer import OutlierObserver
from reproduce.measuring.probe import Probe, measure
from reproduce.models.mlp import Mlp
from reproduce.models.transformer import Transformer
from reproduce.models.variants import VARIANTS
from reproduce.models.vit import Vit
from reproduce.optim import build_optimizer, learning_rate
from reproduce.optim.records import OPTIMIZERS
from reproduce.quantise.decoder import decoder_of
from reproduce.quantise.lab import Lab
from reproduce.specs.runs import ResolvedRun
from reproduce.store.runs import Store
from reproduce.store.trace import read_rows
from reproduce.training.divergence import Divergence
from reproduce.training.train import Execution, Training
from reproduce.training.vision import ImageTask
from tests.runs import write_text_folder

Numbers = dict[str, list[float]]
"""What was computed -> its numbers, in a fixed order."""

CPU = torch.device("cpu")
BUILDS_ON: dict[str, tuple[str, ...]] = {"train": ("sgd", "schedule", "probe", "divergence")}


def seeded(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def digest(x: Tensor) -> list[float]:
    """Sum, sum of absolute values and one entry of `x`: few numbers that hardly anything leaves where they are."""
    flat = x.detach().double().flatten()
    return [float(flat.sum()), float(flat.abs().sum()), float(flat[len(flat) // 3])]


def of_model(model: nn.Module, loss: Tensor) -> list[float]:
    """Initial weights, the loss, and the gradients it has."""
    loss.backward()
    pairs = [(parameter, parameter.grad) for parameter in model.parameters() if parameter.grad is not None]
    weights, gradients = (torch.cat([x.flatten() for x in part]) for part in zip(*pairs, strict=True))
    return [*digest(weights), loss.item(), *digest(gradients)]


# -- models --------------------------------------------------------------------------------------------


def transformer() -> Numbers:
    """Every block of the paper, and both kinds of positions, activations and gains."""
    plain: dict[str, Any] = {"layers": 2, "width": 32, "heads": 4, "biases": "qk", "embed_scale": 50.0}
    cases = {variant: (plain, dict(block)) for variant, block in VARIANTS.items()}
    cases["op, skipinit, trained gains"] = (
        plain,
        VARIANTS["op"] | {"gains": "scalar", "attn_alpha": 1.0, "attn_beta": 0.2},
    )
    cases["pre-ln, soft cap, leaky"] = (
        plain | {"activation": "leaky-relu", "leaky_slope": 0.2},
        VARIANTS["pre-ln"] | {"tanh_cap": 2.0, "mlp_input_scale": "unit-preactivation"},
    )
    cases["pre-ln, rope, gelu, tied, final norm"] = (
        {**plain, "positions": "rope", "activation": "gelu", "tied": True, "biases": "all"},
        VARIANTS["pre-ln"] | {"final_norm": "ln"},
    )
    tokens = torch.randint(0, 50, (2, 16), generator=torch.Generator().manual_seed(1))
    numbers = {}
    for name, (fields, block) in cases.items():
        torch.manual_seed(0)
        config = TransformerConfig.model_validate({**fields, "block": BlockConfig.model_validate(block)})
        model = Transformer(config, 50, 16)
        numbers[name] = of_model(model, F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()))
    return numbers


def mlp() -> Numbers:
    numbers = {}
    for norm in get_args(MlpConfig.model_fields["norm"].annotation):
        torch.manual_seed(0)
        model = Mlp(MlpConfig(layers=3, width=16, norm=norm), 12, 5)
        with torch.no_grad():
            model.readout.weight.copy_(seeded(5, 16, seed=2))  # it begins at zero, which would hide all before it
        numbers[norm] = of_model(model, model(seeded(4, 12, seed=1)).square().mean())
    return numbers


def vit() -> Numbers:
    numbers = {}
    pre_ln = {"pre_qk": "ln", "pre_v": "ln", "pre_mlp": "ln", "final_norm": "ln"}
    op = {"post_qk": "ln", "gains": "vector", "attn_gain": 0.1, "mlp_gain": 0.1}
    for name, block in {"pre-ln": pre_ln, "op": op}.items():
        torch.manual_seed(0)
        fields = {"layers": 2, "width": 16, "heads": 2, "patch": 4, "mlp_ratio": 2.0, "block": block}
        model = Vit(VitConfig.model_validate(fields), 8, 5)
        keep = torch.tensor([[[1.0, 0.0], [2.0, 1.0]], [[0.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]])
        images = seeded(3, 3, 8, 8, seed=1)
        numbers[name] = of_model(model, model(images).square().mean())
        model.zero_grad()
        numbers[f"{name}, branches skipped"] = of_model(model, model(images, keep).square().mean())
    return numbers


# -- data ----------------------------------------------------------------------------------------------


def text() -> Numbers:
    """The tokens of batches of a made-up folder, for each packing, in and beyond the first epoch, and held-out ones."""
    numbers: Numbers = {}
    with tempfile.TemporaryDirectory() as folder:
        path = str(write_text_folder(Path(folder) / "text"))
        for packing in get_args(TextData.model_fields["packing"].annotation):
            data = TextData(source="folder", path=path, seq_len=16, vocab_size=300, packing=packing)
            corpus = open_text(data)
            later = math.ceil(corpus.batches_per_epoch(4)) + 3
            batches = {"first": corpus.batch(0, 0, 4), "other seed": corpus.batch(1, 2, 4)}
            batches |= {"second epoch": corpus.batch(0, later, 4)} if packing == "chunks" else {}
            batches |= {"evaluation": corpus.eval_batch(1, 4), "probe": corpus.probe_batch(4)}
            for name, batch in batches.items():
                numbers[f"{packing}, {name}"] = [
                    float(batch.sum()),
                    *map(float, batch[1, :6]),
                    *map(float, batch[3, -2:]),
                ]
    return numbers


def images() -> Numbers:
    """Inputs and targets of batches of photo patches, plain, whitened and varied, and the held-out probe batch."""
    numbers: Numbers = {}
    kinds: dict[str, dict[str, Any]] = {
        "plain": {},
        "whitened": {"whiten": True, "train_images": 256},
        "varied": {"augment": {"flip": True, "erase": 0.5, "mixup": 0.8, "label_smoothing": 0.1}},
        "cut": {"augment": {"cutmix": 1.0}},
    }
    for name, fields in kinds.items():
        tree = {"kind": "images", "source": "photo-patches", "side": 8, "train_images": 40} | fields
        config = image_run(tree)
        task = ImageTask(config, open_images(config.data), CPU)
        for step in (0, 4):
            batch = task.batch(step)
            numbers[f"{name}, step {step}"] = [*digest(batch.inputs), *digest(batch.targets), float(batch.labels.sum())]
        numbers[f"{name}, probe"] = digest(task.probe_batch(0).inputs)
    assert task.augment != AugmentConfig()
    return numbers


def image_run(data: dict[str, Any], **fields: Any) -> RunConfig:
    tree = {
        "model": {"kind": "mlp", "layers": 2, "width": 8, "norm": "srms"},
        "data": data,
        "optimizer": {"name": "sgd", "lr": 0.5, "beta1": 0.9},
        "steps": 12,
        "batch_size": 16,
        "probe": {"every": 5, "batch_size": 16},
        "eval": {"every": 5, "batches": 2},
    }
    return RunConfig.model_validate(tree | fields)


# -- optimisers ----------------------------------------------------------------------------------------


class Toy(nn.Module):
    """A matrix, which decays, and a vector, which does not."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix, self.vector = nn.Parameter(seeded(6, 4, seed=0)), nn.Parameter(seeded(5, seed=1))


def optimizer(name: str) -> Numbers:
    """Weights after 1 and after 12 steps along given gradients; the bases of rotated optimisers are renewed twice."""
    constants: dict[str, Any] = {"beta1": 0.9, "beta2": 0.95, "eps": 1e-6, "precond_freq": 5}
    read = {field: value for field, value in constants.items() if field in OPTIMIZERS[name].reads}
    fields = {"name": name, "lr": 0.01, "weight_decay": 0.1} | read
    numbers = _steps(fields, "")
    if "placement" in OPTIMIZERS[name].reads:
        numbers |= _steps(fields | {"placement": "transformers"}, ", as in transformers")
    return numbers


def _steps(fields: dict[str, Any], which: str) -> Numbers:
    model, numbers = Toy(), {}
    taken = build_optimizer(OptimizerConfig.model_validate(fields), model)
    for group in taken.param_groups:
        group["lr"] = 0.01
    for step in range(1, 13):
        model.matrix.grad = seeded(6, 4, seed=100 + step) * torch.logspace(-1, 0, 4)
        model.vector.grad = seeded(5, seed=200 + step)
        taken.step()
        if step in (1, 12):
            numbers[f"after {step}{which}"] = [*digest(model.matrix), *digest(model.vector)]
    return numbers


def schedule() -> Numbers:
    steps, numbers = (0, 3, 10, 50, 80, 99), {}
    for kind in get_args(ScheduleConfig.model_fields["kind"].annotation):
        for fields in ({"warmup_fraction": 0.1}, {"warmup_steps": 4}):
            config = ScheduleConfig.model_validate({"kind": kind, **fields})
            numbers[f"{kind}, {next(iter(fields))}"] = [learning_rate(config, step, 100, 0.5) for step in steps]
    return numbers


# -- measuring and training ----------------------------------------------------------------------------


def probe() -> Numbers:
    """Every metric of a made-up stream with outlier features, the steps that are probed, and moment updates."""
    stream = seeded(3, 7, 8, seed=1) * torch.logspace(-1, 1, 8) + 0.3
    logits = seeded(3, 2, 7, 7, seed=2)
    logits = logits + torch.full((7, 7), -torch.inf).triu(1)

    class Shown:
        def encode(self, batch: Tensor, observe: Callable[[str, str, Tensor], None]) -> None:
            observe("residual", "1", batch)
            observe("attention-logits", "1", logits)

    reading = measure(Shown(), [stream], Probe("residual"))
    # The residual of Eq (5) is rounding itself.
    numbers = {name: [layers["1"]] for name, layers in reading.values.items() if name != "eq5_residual"}
    numbers["second moments"] = reading.moments["1"].tolist()
    for last, every in ((20, 5), (2_000, 100)):
        numbers[f"steps of {last}"] = [float(step) for step in probe_steps(last, every)]
        numbers[f"steps with moments of {last}"] = [float(step) for step in sorted(moment_steps(last, every))]
    streams = iter([stream, stream + 0.1 * seeded(3, 7, 8, seed=3)])
    updates = MomentUpdates(1, lambda: next(streams))
    updates.step()
    return numbers | {name: [layers["1"]] for name, layers in updates.step().items()}


def checkpoint() -> Numbers:
    """Every metric of the same stream in two batches and two columns, and its worst neurons."""
    stream = seeded(3, 7, 8, seed=1) * torch.logspace(-1, 1, 8) + 0.3
    observer = OutlierObserver(skip_first=2, correlations=True)
    for part in stream.split(2):
        observer("stream", "1", part)
    reading = observer.reading()
    numbers = {
        f"{metric}, {column}": [value]
        for column, values in reading.layers[0].values.items()
        for metric, value in values.items()
    }
    assert reading.int8 is not None
    numbers["signal to noise in 8 bits"] = [reading.int8.per_tensor_db, reading.int8.per_token_db]
    numbers["shares"] = [neuron.share for neuron in reading.neurons]
    return numbers


def divergence() -> Numbers:
    """The step at which each of some made-up runs fails, -1 for those that train, and what the rule keeps."""
    noise = [0.1 * math.sin(7.0 * step) for step in range(200)]
    runs = {
        "trains": [5 / (1 + step / 20) + noise[step] for step in range(200)],
        "not finite": [5.0] * 30 + [math.nan],
        "rises": [5 / (1 + step / 20) for step in range(60)] + [4.9 + noise[step] for step in range(60)],
        "rises slowly": [1.0 + 0.05 * step + noise[step] for step in range(200)],
        "near zero, a quarter lost": [0.1] + [0.001] * 20 + [0.0258] * 30,
        "near zero, less lost": [0.1] + [0.001] * 20 + [0.0257] * 30,
    }
    numbers = {}
    for name, losses in runs.items():
        rule = Divergence(1_600)
        failed = next((step for step, loss in enumerate(losses) if rule.update(loss)), -1)
        numbers[name] = [float(failed), rule.minimum if math.isfinite(rule.minimum) else -1.0, float(rule.patience)]
    rule = Divergence(20)
    numbers["skips"] = [float(next(step for step in range(200) if rule.update(3.0, skipped=step != 7)))]
    return numbers


class Regression:
    """A task of a few weights for the loop alone: squared error of a linear map of made-up inputs."""

    def __init__(self) -> None:
        self.model = nn.Linear(6, 3)
        with torch.no_grad():
            self.model.weight.copy_(seeded(3, 6, seed=0))
            self.model.bias.zero_()
        self.tokens_per_step = 8
        self.truth = seeded(3, 6, seed=1)

    def batch(self, step: int) -> Tensor:
        return seeded(8, 6, seed=10 + step)

    def loss(self, batch: Tensor) -> Tensor:
        return (self.model(batch) - batch @ self.truth.T).square().mean()

    def train_metrics(self) -> dict[str, float]:
        return {}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        return {"loss": float(self.loss(seeded(16, 6, seed=2)))}

    def probe_batch(self, step: int) -> Tensor:
        return seeded(8, 6, seed=3)

    def encode(self, batch: Tensor, observe: Any = None, blocks: int | None = None) -> Tensor:
        outputs = self.model(batch)
        if observe is not None:
            observe("residual", "1", outputs)
        return outputs


def train() -> Numbers:
    """The trace of a linear regression, whole, in micro-batches, clipped, and in bfloat16."""
    numbers: Numbers = {}
    cases: dict[str, tuple[dict[str, Any], int | None]] = {
        "whole": ({}, None),
        "micro-batches": ({}, 3),
        "clipped": ({"grad_clip": 0.5}, None),
        "bf16": ({"precision": "bf16"}, None),
    }
    data = {"kind": "images", "source": "photo-patches", "side": 8, "train_images": 40}
    for name, (fields, micro_batch) in cases.items():
        config = image_run(data, batch_size=8, schedule={"kind": "linear", "warmup_steps": 2}, **fields)
        run = ResolvedRun("regression", "regression", "cifar-mlp", "smoke", 0, config, paper_data=False)
        with tempfile.TemporaryDirectory() as home:
            folder = Store(Path(home)).create(run)
            Training(config, Regression(), folder, Execution(CPU, micro_batch)).run()
            rows = read_rows(folder.path)
        for metric in ("loss", "grad_norm", "lr", "activation_rms"):
            for split in dict.fromkeys(row.split for row in rows if row.metric == metric):
                wanted = [row for row in rows if (row.split, row.metric) == (split, metric)]
                steps = [float(row.step) for row in wanted if metric != "grad_norm"]
                numbers[f"{name}, {split} {metric}"] = [*steps, *(row.value for row in wanted)]
    return numbers


def quantise() -> Numbers:
    """The published protocol, and rows of the lab, on a model with gates and on one without norms."""
    tokens = torch.randint(0, 40, (4, 12), generator=torch.Generator().manual_seed(1))
    numbers: Numbers = {}
    for variant in ("pre-ln-gated", "op"):
        torch.manual_seed(0)
        fields = {"layers": 2, "width": 16, "heads": 2, "init_std": 0.3, "block": VARIANTS[variant]}
        decoder = decoder_of(Transformer(TransformerConfig.model_validate(fields), 40, 12))
        lab = Lab(decoder, [tokens[:2], tokens[2:]], weights=4, activations=6, length=12)
        for row in (
            "published",
            "tensor",
            "llm-int8",
            "smoothquant",
            "quarot",
            "svdquant-4",
            "w3-adadim",
            "keys-8-sorted",
        ):
            numbers[f"{variant}, {row}"] = digest(lab.prepare(row).model(tokens))
    return numbers


COMPONENTS: dict[str, Callable[[], Numbers]] = {
    "transformer": transformer,
    "mlp": mlp,
    "vit": vit,
    "text": text,
    "images": images,
    **{name: partial(optimizer, name) for name in get_args(OptimizerConfig.model_fields["name"].annotation)},
    "schedule": schedule,
    "probe": probe,
    "checkpoint": checkpoint,
    "divergence": divergence,
    "quantise": quantise,
    "train": train,
}
