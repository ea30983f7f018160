"""From a model and the name of a row to the quantised model: how the parts of this package compose into methods.

All rows but `published` and those of keys quantise the linear layers: their weights and what enters them. The head,
embeddings, norms, biases, gates and attention stay in full precision. Weights are symmetric, and activations are
asymmetric with the range of the very tensor, unless a method says otherwise. Nothing here is tuned on evaluation text.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from functools import cached_property

import torch
from torch import Tensor, nn

from reproduce.quantise import keys, protocol
from reproduce.quantise.blocks import scales_per_weight
from reproduce.quantise.decoder import Decoder
from reproduce.quantise.folding import fold_gains, rotation_obstacle, smoothing_home
from reproduce.quantise.integers import IntegerLinear, arithmetic
from reproduce.quantise.linears import (
    Inputs,
    Map,
    QuantisedLinear,
    Run,
    calibrate,
    linear_names,
    quantise_linears,
    replace,
    run_model,
    sharing,
)
from reproduce.quantise.methods import adadim, llm_int8, quarot, smoothquant, splitquant, svdquant
from reproduce.quantise.quantisers import FirstInFloat, Scheme, Unrounded
from reproduce.quantise.rows import ROWS

SCALE_BITS = 16
"""Bits in which a scale is stored."""
GROUP = 64
"""Length of a group at 4 bits, as in SVDQuant's configuration; the largest divisor of an axis up to it."""
WEIGHT_GROUP = 128
"""Length of a group of weights alone, as in AdaDim's scripts; the largest divisor of an axis up to it."""
REWRITES = ("smoothquant", "quarot", "svdquant", "w2-splitquant", "w4-splitquant")
"""How the rows begin whose method rewrites the model before it rounds anything."""
TOLERANCE = 1e-3
"""Largest difference between the logits of a rewritten model and the model's own, relative to their norm, in float32.
One level of 8 bits is 4 times as large."""


class NotApplicable(Exception):
    """A method does not apply to a model, for the reason that the message gives."""


@dataclass
class Prepared:
    """A quantised model, ready to be evaluated."""

    model: nn.Module
    weight_bits: float
    """Mean number of bits of an entry of the linear layers' weights, with scales and branches."""
    flops: float = 0.0
    """FLOPs that the method adds for each token."""


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is at most `limit`."""
    return max(divisor for divisor in range(1, min(number, limit) + 1) if number % divisor == 0)


@dataclass
class Lab:
    """One model with its calibration text, from which every row is made."""

    model: nn.Module
    calibration: Sequence[Tensor]
    """Batches of tokens (B, T) from the training text."""
    other_text: Sequence[Tensor] = ()
    """As many batches of other text, for the study of calibration sets."""
    random_tokens: Sequence[Tensor] = ()
    """As many batches of tokens that are drawn at random."""
    weights: int = 8
    """Bits of weights in the families `published`, `causes` and `int8`."""
    activations: int = 8
    """Bits of activations there."""
    run: Run = run_model
    length: int = 0
    """Positions of the sequences that run through the model at the moment. Some models flatten their activations."""
    notes: dict[str, str] = field(default_factory=dict)
    """What a row has to say beside its numbers."""
    scheme: type[Scheme] = Scheme
    """What rounds; `Unrounded` in the rehearsal of a method."""
    scales: dict[str, Tensor] = field(default_factory=dict)
    """SVDQuant's smoothing scales (k,), by the first layer with that input. All ranks and rehearsals have the same."""
    boundaries: dict[str, list[float]] = field(default_factory=dict)
    """SplitQuant's two boundaries, by layer. All widths and rehearsals have the same."""

    @cached_property
    def inputs(self) -> dict[str, Inputs]:
        """What calibration saw enter each linear layer."""
        return calibrate(self.model, self.calibration, self.run)

    # -- rows --------------------------------------------------------------------------------------

    def prepare(self, name: str) -> Prepared:
        """The model quantised as the row `name` says.

        A method that rewrites the model is rehearsed first: without rounding, its logits have to be the model's own.

        Raises:
            NotApplicable: the method does not apply to this model.
            ValueError: there is no such row.
        """
        if name not in ROWS:
            raise ValueError(f"there is no row {name}")
        if name.startswith(REWRITES):
            self._rehearse(name)
        return self._make(name)

    @torch.no_grad()
    def _rehearse(self, name: str) -> None:
        """Let a method rewrite the model without rounding, and compare logits on one calibration sequence.

        Raises:
            NotApplicable: the rewritten model is another function.
        """
        rehearsal = changed(self, scheme=Unrounded, notes={})
        rehearsal.__dict__["inputs"] = self.inputs  # what calibration saw is the same
        tokens = self.calibration[0][:1]
        length, self.length, rehearsal.length = self.length, tokens.shape[1], tokens.shape[1]
        wanted, got = (self.run(model, tokens) for model in (self.model, rehearsal._make(name).model))
        self.length = length
        assert isinstance(wanted, Tensor)
        assert isinstance(got, Tensor)
        off = float((got.float() - wanted.float()).norm() / wanted.float().norm().clamp(min=1e-30))
        if not off <= TOLERANCE:
            raise NotApplicable(f"the model as it rewrites it is another function: its logits differ by {off:.1e}")

    def _make(self, name: str) -> Prepared:
        base, _, detail = name.partition("-")
        if base in ("published", "dynamic"):
            return self._published(detail, dynamic=base == "dynamic")
        if name.startswith("keys-"):
            size, _, suffix = detail.partition("-")
            return self._keys(int(size), ordered=suffix == "sorted")
        if name.startswith("svdquant-"):
            return self._svdquant(int(detail))
        if base in ("w2", "w3", "w4"):
            return self._weights_alone(name, int(base[1:]), detail)
        return self._dynamic(name)

    def _dynamic(self, name: str) -> Prepared:
        """The families `causes` and `int8`, and plain rounding in groups of 4 bits."""
        weight, activation = self.scheme(self.weights), self.scheme(self.activations, "asymmetric")
        per_token = self.scheme(self.activations, "asymmetric", "token")
        plain: dict[str, tuple[Scheme | None, Map | None]] = {
            "weights": (weight, None),
            "activations": (None, activation),
            "tensor": (weight, activation),
            "token": (self.scheme(self.weights, granularity="channel"), per_token),
            "first-token": (weight, FirstInFloat(activation, lambda: self.length)),
            "vector": self._vector_wise(),
        }
        if name in plain:
            return self._plain(*plain[name])
        if name == "integers":
            return self._in_integers(weight, activation)
        if name in ("outlier-channels", "llm-int8"):
            return self._decomposed(name)
        if name.startswith("smoothquant"):
            return self._smoothed(name, weight, per_token if name.endswith("token") else activation)
        if name == "w4a4-groups":
            return self._plain(*self._groups(4))
        if name == "quarot-w4a4":
            return self._rotated(name, *self._groups(4))
        return self._rotated(name, weight, per_token if name.endswith("token") else activation)

    def _groups(self, bits: int, make: type[Scheme] | None = None) -> tuple[Scheme, Scheme]:
        """Weights and activations in symmetric groups, of one length for all layers; `make` in place of `scheme`."""
        size = largest_divisor(math.gcd(*(linear.in_features for _, linear in self._linears())), GROUP)
        if size < 2:
            raise NotApplicable(f"the inputs of its linear layers have no common groups of 2 to {GROUP}")
        scheme = (make or self.scheme)(bits, granularity="group", size=size)
        return scheme, scheme

    def _vector_wise(self) -> tuple[Scheme, Scheme]:
        """Symmetric, with a scale for each output of a weight and each token."""
        return self.scheme(self.weights, granularity="channel"), self.scheme(self.activations, granularity="token")

    def _linears(self) -> list[tuple[str, nn.Linear]]:
        named = ((name, self.model.get_submodule(name)) for name in linear_names(self.model))
        return [(name, module) for name, module in named if isinstance(module, nn.Linear)]

    def _entries(self) -> int:
        return sum(linear.weight.numel() for _, linear in self._linears())

    def _bits(self, scheme: Scheme | None) -> float:
        """Bits of an entry with its share of scales; 32 in full precision."""
        if scheme is None:
            return 32.0
        shares = sum(
            linear.weight.numel()
            * scales_per_weight((linear.out_features, linear.in_features), scheme.granularity, scheme.size)
            for _, linear in self._linears()
        )
        return scheme.bits + SCALE_BITS * shares / self._entries()

    def _plain(self, weight: Scheme | None, activation: Map | None) -> Prepared:
        def make(name: str, linear: nn.Linear) -> nn.Module:
            matrix = linear.weight.data if weight is None else weight(linear.weight.data)
            return QuantisedLinear(matrix, linear.bias, activation)

        return Prepared(quantise_linears(self.model, make), self._bits(weight))

    def _in_integers(self, weight: Scheme, activation: Scheme) -> Prepared:
        if weight.bits > 8 or activation.bits > 8:
            raise NotApplicable("integer products take at most 8 bits")
        made = quantise_linears(self.model, lambda _, linear: IntegerLinear(linear, weight, activation))
        self.notes["integers"] = arithmetic(next(self.model.parameters()).device.type).why
        return Prepared(made, self._bits(weight))

    def _decomposed(self, name: str) -> Prepared:
        """Outlier channels in full precision: as published, or per tensor and relative to the layer's inputs."""
        if name == "llm-int8":
            schemes = self._vector_wise()
        else:
            schemes = self.scheme(self.weights), self.scheme(self.activations, "asymmetric")

        def make(_: str, linear: nn.Linear) -> nn.Module:
            return llm_int8.DecomposedLinear(linear, *schemes, relative=name != "llm-int8")

        return Prepared(quantise_linears(self.model, make), self._bits(schemes[0]))

    def _smoothed(self, name: str, weight: Scheme, activation: Map) -> Prepared:
        scales = smoothquant.smooth(self.model, self.inputs)

        def make(layer: str, linear: nn.Linear) -> nn.Module:
            if layer not in scales:
                return QuantisedLinear(weight(linear.weight.data), linear.bias, activation)
            divide = smoothquant.Divide(scales[layer])
            return QuantisedLinear(weight(linear.weight.data * scales[layer]), linear.bias, activation, divide)

        smoothed = [first for first in sharing(self.inputs) if first in scales]
        online = [first for first in smoothed if self._home(first) == "online"]
        if isinstance(self.model, Decoder):
            self.notes[name] = (
                f"{len(online)} of {len(smoothed)} inputs are divided as they pass: nothing before them has a gain"
                if online else "all divisions can be folded into the norms"
            )  # fmt: skip
        divisions = sum(len(scales[first]) for first in online)
        return Prepared(quantise_linears(self.model, make), self._bits(weight), float(divisions))

    def _home(self, layer: str) -> str:
        """Where the division of a layer's inputs could be folded; models from elsewhere are not known well enough."""
        return smoothing_home(self.model, layer) if isinstance(self.model, Decoder) else "online"

    def _rotated(self, name: str, weight: Scheme, activation: Map) -> Prepared:
        model, obstacle = self.model, "its blocks are not this package's"
        if isinstance(model, Decoder):
            obstacle = rotation_obstacle(model) or ""
            model = copy.deepcopy(model)
            fold_gains(model)

        def make(_: str, linear: nn.Linear) -> nn.Module:
            matrix = quarot.rotation(linear.in_features)
            rotated = (linear.weight.data.double() @ matrix).float()
            return QuantisedLinear(weight(rotated), linear.bias, activation, quarot.Multiply(matrix.float()))

        self.notes[name] = (
            f"all inputs are rotated as they pass: {obstacle}" if obstacle
            else "the rotation of the stream can be folded into the weights; two inputs a block are rotated online"
        )  # fmt: skip
        groups = sharing(self.inputs).items()
        online = [first for first, group in groups if obstacle or not smoothquant.reads_the_stream(self.model, group)]
        flops = sum(quarot.rotation_flops(self.inputs[first].largest.numel()) for first in online)
        return Prepared(quantise_linears(model, make), self._bits(weight), flops)

    def _svdquant(self, rank: int) -> Prepared:
        weight, activation = self._groups(4)
        layers = dict(self._linears())
        smallest = min(min(linear.in_features, linear.out_features) for linear in layers.values())
        if rank > smallest:
            raise NotApplicable(f"its smallest linear layer has rank {smallest}, less than {rank}")
        iterations = 0 if self.scheme is Unrounded else svdquant.ITERATIONS  # rounding is what they improve
        made, extra, flops = copy.deepcopy(self.model), 0, 0.0
        for first, group in sharing(self.inputs).items():
            rows, matrices = self.inputs[first].rows, [layers[name].weight.data for name in group]
            scales = self._smoothing(first, matrices)
            whole = torch.cat(matrices) * scales
            parts = svdquant.decompose(rows / scales, whole, rank, activation, weight, iterations)
            quantised, up, down = parts[:3]
            sizes = [len(matrix) for matrix in matrices]
            for name, matrix, own in zip(group, quantised.split(sizes), up.split(sizes), strict=True):
                low_rank = (own, down) if rank else None
                divide = smoothquant.Divide(scales)
                replace(made, name, QuantisedLinear(matrix.clone(), layers[name].bias, activation, divide, low_rank))
            extra += up.numel() + down.numel()
            flops += len(scales) + 2 * (up.numel() + down.numel())
        return Prepared(made, self._bits(weight) + SCALE_BITS * extra / self._entries(), flops)

    def _smoothing(self, first: str, matrices: Sequence[Tensor]) -> Tensor:
        """SVDQuant's scales of the layers that share the input of `first`, searched with what really rounds."""
        if first not in self.scales:
            known, (weight, activation) = self.inputs[first], self._groups(4, Scheme)
            self.scales[first] = svdquant.search_scales(known.rows, known.largest, matrices, activation, weight)
        return self.scales[first]

    def _weights_alone(self, name: str, bits: int, detail: str) -> Prepared:
        whole = self.scheme(bits, "asymmetric")
        if detail == "splitquant":

            def make(layer: str, linear: nn.Linear) -> nn.Module:
                matrix = linear.weight.data
                if layer not in self.boundaries:
                    self.boundaries[layer] = splitquant.boundaries(matrix)
                return QuantisedLinear(splitquant.quantised(matrix, whole, self.boundaries[layer]), linear.bias)

            return Prepared(quantise_linears(self.model, make), bits + splitquant.EXTRA_BITS)
        if detail == "":
            return self._plain(whole, None)
        if detail == "group":
            # Groups as long as their scales take the bits by which SplitQuant says which part an entry is of.
            limit = round(SCALE_BITS / splitquant.EXTRA_BITS)
            size = largest_divisor(math.gcd(*(linear.in_features for _, linear in self._linears())), limit)
            return self._plain(self.scheme(bits, "asymmetric", "group", size=size), None)
        return self._grouped(name, bits, detail)

    def _grouped(self, name: str, bits: int, detail: str) -> Prepared:
        axes = (axis for _, linear in self._linears() for axis in (linear.in_features, linear.out_features))
        size = largest_divisor(math.gcd(*axes), WEIGHT_GROUP)
        if size < 2:
            raise NotApplicable(f"its linear layers have no common groups of 2 to {WEIGHT_GROUP}")
        scheme = self.scheme(bits, "asymmetric", "group", size=size)
        if detail == "adadim":
            batch = self.calibration[0]
            made, chosen = adadim.quantise(self.model, self.inputs, lambda model: self.run(model, batch), scheme)
            along_outputs = sum(dimension == "ic" for dimension in chosen.values())
            self.notes[name] = f"{along_outputs} of {len(chosen)} layers in groups of outputs"
        else:
            dimension: adadim.Dimension = "oc" if detail == "oc" else "ic"

            def make(_: str, linear: nn.Linear) -> nn.Module:
                return QuantisedLinear(adadim.per(linear.weight.data, dimension, scheme), linear.bias)

            made = quantise_linears(self.model, make)
        return Prepared(made, bits + SCALE_BITS / size)

    # -- rows of this package's transformers alone -------------------------------------------------

    def _decoder(self) -> Decoder:
        if not isinstance(self.model, Decoder):
            raise NotApplicable("it needs a place at each tensor, which only this package's transformers have")
        return self.model

    def _published(self, text: str, *, dynamic: bool) -> Prepared:
        decoder = self._decoder()
        sets = {"": self.calibration, "other-text": self.other_text, "random": self.random_tokens}
        if not sets[text]:
            raise NotApplicable("there is no such text in its tokens on this machine")
        made = protocol.quantise(decoder, self.weights, self.activations, dynamic=dynamic)
        return Prepared(made.calibrate(sets[text]).decoder, float(self.weights))

    def _keys(self, size: int, *, ordered: bool) -> Prepared:
        decoder = self._decoder()
        if decoder.config.positions == "rope":
            raise NotApplicable("rotary positions pair channels, which sorting would part")
        if decoder.config.head_width % size:
            raise NotApplicable(f"its heads have {decoder.config.head_width} channels, no multiple of {size}")
        return Prepared(keys.quantise(decoder, size, self.calibration if ordered else ()), 32.0)
