"""Vision transformer as DeiT builds it (v2 App E.1.2: ViT-B), with the blocks of the language models.

    tokens     W_p of each patch x patch square of pixels, after a class token; learnt positions added to all
    blocks     those of `reproduce.models.transformer`, every token attending to every other; GELU, biases everywhere
    logits     head of the class token, after the final norm where the block has one

    Pre-LN         86,567,656 parameters at 12 blocks of width 768, patches of 16, 224 x 224 pixels, 1,000 classes
    LayerScale     residual gains that are trained vectors, initially 1e-4 (`block.gains: vector`)
    OP             no norms but those of queries and keys, LayerScale, no final norm (inferred)

As in DeiT: matrices, class token and positions N(0, init_std^2), truncated at +-2; biases 0; the patch projection with
PyTorch's default. Unlike there, epsilon of LayerNorm is 1e-5, not 1e-6, and weight decay spares neither class token nor
positions: both as everywhere in this package.

Shapes: B images, P patches, T = P + 1 tokens, D width, L layers, C classes.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from reproduce.config import TransformerConfig, VitConfig
from reproduce.models.size import CHANNELS
from reproduce.models.transformer import Block, Observer, make_norm
from reproduce.optim.records import Role


def block_config(config: VitConfig) -> TransformerConfig:
    """What the blocks of a vision transformer are, in the terms of a language model's."""
    return TransformerConfig(
        layers=config.layers,
        width=config.width,
        heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        activation="gelu",
        biases="all",
        init_std=config.init_std,
        block=config.block,
    )


def drop_rates(config: VitConfig) -> list[float]:
    """Probability with which each block's branches are skipped: from 0 in the first to `drop_path` in the last."""
    return [config.drop_path * index / max(config.layers - 1, 1) for index in range(config.layers)]


class VitBlock(Block):
    """A block in which an image may skip either branch (stochastic depth)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config, causal=False)

    def forward(
        self, x: Tensor, layer: str = "", observe: Observer | None = None, keep: Tensor | None = None
    ) -> Tensor:
        """As `Block`; `keep` (B, 2) multiplies the attention branch and the MLP branch of each image."""
        if keep is None:
            return super().forward(x, layer, observe)
        keep_attn, keep_mlp = keep[:, :, None, None].unbind(1)  # (B, 1, 1) each, against a stream (B, T, D)
        x = self.post_norm_attn(x + keep_attn * (self.attn_gain * self.attention(x, layer, observe)))
        return self.post_norm_mlp(x + keep_mlp * (self.mlp_gain * self.mlp(x)))


class Vit(nn.Module):
    """Images (B, 3, S, S) -> logits (B, C)."""

    ROLES: ClassVar[dict[str, Role]] = {
        "patches.weight": "embedding",
        "class_token": "embedding",
        "positions": "embedding",
        "head.weight": "embedding",
    }

    def __init__(self, config: VitConfig, side: int, classes: int) -> None:
        super().__init__()
        width, inner = config.width, block_config(config)
        self.patches = nn.Conv2d(CHANNELS, width, config.patch, stride=config.patch)
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, (side // config.patch) ** 2 + 1, width))
        self.blocks = nn.ModuleList(VitBlock(inner) for _ in range(config.layers))
        self.final_norm = make_norm(config.block.final_norm, width)
        self.head = nn.Linear(width, classes)
        for weight in (self.class_token, self.positions):
            nn.init.trunc_normal_(weight, std=config.init_std)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=config.init_std)
                nn.init.zeros_(module.bias)

    def embed(self, images: Tensor) -> Tensor:
        """Input of the first block, (B, T, D), float32."""
        # A convolution whose stride is its width projects every patch by the same matrix: (B, D, S/p, S/p).
        patches = self.patches(images).float().flatten(2).transpose(1, 2)  # (B, P, D)
        return torch.cat((self.class_token.expand(len(images), -1, -1), patches), dim=1) + self.positions

    def encode(
        self,
        images: Tensor,
        observe: Observer | None = None,
        blocks: int | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """The residual stream (B, T, D) of all tokens after `blocks` blocks, or after all and the final norm.

        Args:
            images: (B, 3, S, S) normalised images.
            observe: is shown every named point on the way; layers count from "1". The last point, "unembed", is the
                head's input with the other tokens beside the class token.
            blocks: The number of blocks after which to stop. All of them, and the final norm, if None.
            keep: (B, L, 2) factors of the branches, see `VitBlock`. None keeps every branch as it is.
        """
        x = self.embed(images)
        for index, block in enumerate(self.blocks[:blocks]):
            if observe is not None:
                observe("residual", str(index + 1), x)
            x = block(x, str(index + 1), observe, None if keep is None else keep[:, index])
        if blocks is not None:
            return x
        x = self.final_norm(x)
        if observe is not None:
            observe("residual", "unembed", x)
        return x

    def forward(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        return self.head(self.encode(images, keep=keep)[:, 0]).float()
