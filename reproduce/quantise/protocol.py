"""The published W8A8 protocol: which tensors are quantised, and how (Bondarenko et al., arXiv 2306.12929, Section 5).

weights        symmetric, one scale a tensor, range by search for the least squared error; a tensor without negative
               numbers, such as the gain of a norm, on the unsigned grid
activations    asymmetric, one scale a tensor, static: running range of the 99.999th percentile over the calibration
               batches, with momentum 0.9
left in float  the head, all biases, gates and residual gains, and sums that a gate or the factor 1 / sqrt(K) changes

OPT with L layers has 21 L + 5 quantisers. In each layer 12 are of the weights and outputs of linear layers, 4 of the
gains and outputs of norms, 3 of scores, probabilities and context, and 2 of the residual sums. The others are of the
two embeddings, their sum, and gain and output of the final norm.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from reproduce.quantise.decoder import Decoder, Place
from reproduce.quantise.grids import Grid
from reproduce.quantise.quantisers import Scheme, StaticQuantiser

PERCENT = 99.999
"""Percentile that stands for the largest number of a batch of activations."""
MOMENTUM = 0.9
"""Weight of the running range beside a new batch."""


@dataclass
class Protocol:
    """A decoder quantised by the published protocol, together with its quantisers."""

    decoder: Decoder
    weights: dict[str, Grid] = field(default_factory=dict)
    """Name of each quantised parameter -> its grid."""
    places: dict[str, StaticQuantiser] = field(default_factory=dict)
    """Name of each place -> its quantiser, such as `blocks.0.attention.scores`."""
    dynamic: bool = False
    """Whether the range of each activation stays that of the tensor at hand, whatever calibration has seen."""

    def __len__(self) -> int:
        """The number of quantisers."""
        return len(self.weights) + len(self.places)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> Protocol:
        """Learn the ranges of the activations from batches of tokens (B, T), and freeze them if they are static.

        Raises:
            ValueError: there is no batch.
        """
        count = 0
        for tokens in batches:
            self.decoder(tokens)
            count += 1
        if not count and self.places:
            raise ValueError("static ranges need at least one calibration batch")
        for quantiser in self.places.values():
            quantiser.calibrating = self.dynamic
        return self


def quantise(
    decoder: Decoder, weights: int | None = 8, activations: int | None = 8, *, dynamic: bool = False
) -> Protocol:
    """A quantised copy of `decoder`, whose activations are still to be calibrated.

    Args:
        decoder: It is left as it is.
        weights: bits of the weights; None leaves them in float.
        activations: bits of the activations; None leaves them in float.
        dynamic: takes the percentiles of each tensor itself, in place of those of calibration. Theirs are static.
    """
    made = Protocol(copy.deepcopy(decoder), dynamic=dynamic)
    if weights is not None:
        scheme = Scheme(weights, range="least-squares")
        for name, parameter in quantised_parameters(made.decoder):
            grid, blocks = scheme.fit(parameter.data)
            parameter.data = blocks.restore(grid(blocks.rows))
            made.weights[name] = grid
    if activations is not None:
        for name, place in places(made.decoder):
            place.quantiser = made.places[name] = StaticQuantiser(activations, PERCENT, 0.0 if dynamic else MOMENTUM)
    return made


def quantised_parameters(decoder: Decoder) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that the protocol quantises: matrices but the head's and the gates', and the gains of norms."""
    for name, parameter in decoder.named_parameters():
        kept = name == "unembedding.weight" or ".gate." in name
        if not kept and name.endswith((".weight", ".gain")):
            yield name, parameter


def places(decoder: Decoder) -> Iterator[tuple[str, Place]]:
    """All places of `decoder`, under names without the words that only the module tree needs."""
    for name, module in decoder.named_modules():
        if isinstance(module, Place):
            yield name.replace("places.", ""), module
