"""Residual MLP on flattened images (v1 App B, v2 App D): the architecture of the CIFAR-10 experiments.

    X_0      = W_in x                                        x: the 3 S^2 values of an image
    X_l      = X_{l-1} + W_2 phi(W_1 Norm(X_{l-1}))          l = 1..L, both matrices width x width
    logits   = W_out X_L / sqrt(width)                       W_out = 0 at initialisation

"15M" parameters at 6 blocks of width 1024 mean two matrices a block: 15,738,880. The paper does not state the norm,
phi, biases or the initialisation. Here: phi is the configured one, no linear layer has a bias, every matrix but W_out
has PyTorch's default initialisation U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

Shapes: B images, D width, C classes.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from reproduce.config import MlpConfig
from reproduce.models.transformer import Observer, make_norm
from reproduce.optim.records import Role


class MlpBlock(nn.Module):
    """x + W_2 phi(W_1 norm(x))."""

    def __init__(self, config: MlpConfig) -> None:
        super().__init__()
        self.norm = make_norm(config.norm, config.width)
        self.up = nn.Linear(config.width, config.width, bias=False)
        self.down = nn.Linear(config.width, config.width, bias=False)
        self.activation = F.gelu if config.activation == "gelu" else F.relu

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.activation(self.up(self.norm(x))))


class Mlp(nn.Module):
    """Images (B, ...) of `inputs` values each -> logits (B, C)."""

    ROLES: ClassVar[dict[str, Role]] = {"embedding.weight": "embedding", "readout.weight": "embedding"}

    def __init__(self, config: MlpConfig, inputs: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(inputs, config.width, bias=False)
        self.blocks = nn.ModuleList(MlpBlock(config) for _ in range(config.layers))
        self.readout = nn.Linear(config.width, classes, bias=False)
        nn.init.zeros_(self.readout.weight)

    def encode(self, images: Tensor, observe: Observer | None = None, blocks: int | None = None) -> Tensor:
        """The residual stream (B, D) after `blocks` blocks, or the input of the readout after all of them.

        Args:
            images: (B, ...) normalised images.
            observe: is shown the `residual` stream entering every block, layers counting from "1", and last that
                entering the readout, "unembed".
            blocks: The number of blocks after which to stop. All of them if None.
        """
        x = self.embedding(images.flatten(1)).float()  # the stream stays float32 in mixed precision
        for index, block in enumerate(self.blocks[:blocks], start=1):
            if observe is not None:
                observe("residual", str(index), x)
            x = block(x)
        if blocks is None and observe is not None:
            observe("residual", "unembed", x)
        return x

    def forward(self, images: Tensor) -> Tensor:
        x = self.encode(images)
        return self.readout(x).float() / math.sqrt(x.shape[-1])  # (B, C)
