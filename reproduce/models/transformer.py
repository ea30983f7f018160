"""Decoder-only transformer language model with every block of the paper.

    placement      Pre-Norm (Eq 6), Post-Norm (Eq 7), or no norm at all: the Outlier Protected block (Eqs 12, 13)
    norms          LayerNorm, RMSNorm, SRMSNorm, none, each at Pre-QK, Pre-V, Post-QK, Pre-MLP (v1 Table 3)
    attention      plain, QK-Norm, soft-capped logits, clipped softmax, gated heads, or Value-SkipInit: alpha I + beta A
    residuals      x + gain * branch(x), the gain fixed, a trained scalar, or a trained vector (LayerScale)
    positions      learnt, or rotary (project, norm, rotate)
    embedding      multiplied by `embed_scale`; unembedding tied or not; final norm only where the block asks for it

What is measured is not known here: `encode` shows each named point to an observer and goes on.

Shapes: B sequences, T tokens, D width, H heads, K = D / H, F hidden width of the MLP, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reproduce.config import BlockConfig, Norm, TransformerConfig
from reproduce.models.dropout import dropped
from reproduce.models.kernels import linear_cross_entropy, rms_norm
from reproduce.optim.records import Role

Observer = Callable[[str, str, Tensor], None]
"""Called as `observe(point, layer, tensor)`; points: `residual`, `attention-input`, `attention-logits`, `mlp-input`."""

NORM_EPS = 1e-5


class LayerNorm(nn.Module):
    """(x - mean) / std * gain + bias over the last axis; epsilon inside the root."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.float(), self.gain.shape, self.gain, self.bias, NORM_EPS)


class RMSNorm(nn.Module):
    """x / (rms(x) + eps), times a trained gain unless it is SRMSNorm; eps outside the root, as in the authors' code."""

    def __init__(self, width: int, *, trained: bool) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width)) if trained else None

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x.float(), self.gain, NORM_EPS)


def make_norm(kind: Norm, width: int) -> nn.Module:
    """The norm of that kind over a last axis of `width` values; `none` passes its input on unchanged."""
    if kind == "ln":
        return LayerNorm(width)
    if kind == "none":
        return nn.Identity()
    return RMSNorm(width, trained=kind == "rms")


def make_gain(block: BlockConfig, value: float, width: int) -> nn.Parameter | float:
    """Residual gain of one branch: a number, a trained scalar (shape (1,)), or a trained vector (D).

    The scalar has an axis because FSDP2 cuts every parameter along its first one.
    """
    if block.gains == "fixed":
        return value
    return nn.Parameter(torch.full((width if block.gains == "vector" else 1,), value))


def strength(gain: nn.Parameter | float) -> Tensor | float:
    """The factor of a branch.

    A trained scalar loses its axis here: a tensor without axes does not take part in type promotion, so the branch
    keeps the type of its products.
    """
    return gain if isinstance(gain, float) or gain.numel() > 1 else gain.view(())


def add_branch(x: Tensor, gain: nn.Parameter | float, branch: Tensor) -> Tensor:
    """x + gain * branch, the stream x (..., D) float32 after a branch (..., D)."""
    if isinstance(gain, float):
        return torch.add(x, branch, alpha=gain)  # in one pass
    return x + strength(gain) * branch


def rotary_angles(length: int, head_width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (T, K/2), of rotary position embedding with base 10,000 (Su et al., arXiv 2104.09864)."""
    frequency = 10_000.0 ** (-torch.arange(0, head_width, 2, device=device, dtype=torch.float32) / head_width)
    angle = torch.arange(length, device=device, dtype=torch.float32)[:, None] * frequency
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (x_i, x_{i + K/2}) of each head by its position's angle; x (B, H, T, K)."""
    first, second = x.float().chunk(2, dim=-1)  # (B, H, T, K/2) each
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class HeadGate(nn.Module):
    """One gate for each head and token, sigmoid(w_h . x_h + b_h), where x_h (K) is the head's slice of the input.

    A linear layer of K + 1 parameters for each head. At initialisation the bias alone gives the gate the probability
    that is configured. Source: arXiv 2306.12929, Section 4.2.
    """

    def __init__(self, heads: int, head_width: int, initial: float, init_std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(heads, head_width).normal_(std=init_std))
        self.bias = nn.Parameter(torch.full((heads,), math.log(initial / (1 - initial))))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, H K) -> (B, H, T, 1)."""
        heads = x.unflatten(-1, self.weight.shape).transpose(1, 2).contiguous().unbind(1)  # H times (B, T, K)
        each = zip(heads, self.weight[:, None], self.bias[:, None], strict=True)  # weights (1, K), biases (1,)
        return torch.sigmoid(torch.stack([F.linear(head, weight, bias) for head, weight, bias in each], dim=1))


def make_gate(config: TransformerConfig) -> HeadGate | None:
    """The gates of one block, where it has any."""
    initial = config.block.gate
    return None if initial is None else HeadGate(config.heads, config.head_width, initial, config.init_std)


class Attention(nn.Module):
    """Multi-head attention with its own Pre-QK, Pre-V and Post-QK norms.

    A causal one lets each token attend to itself and to those before it, the other kind to all tokens.
    """

    def __init__(self, config: TransformerConfig, *, causal: bool = True) -> None:
        super().__init__()
        block, width = config.block, config.width
        self.causal = causal
        self.heads, self.rope = config.heads, config.positions == "rope"
        self.cap, self.alpha, self.beta = block.tanh_cap, block.attn_alpha, block.attn_beta
        self.gamma = block.softmax_gamma
        self.norm_qk = make_norm(block.pre_qk, width)
        # Pre-QK and Pre-V of the same kind are the one Pre-Norm of an ordinary block.
        self.norm_v = None if block.pre_v == block.pre_qk else make_norm(block.pre_v, width)
        bias_qk, bias = config.biases != "none", config.biases == "all"
        self.query = nn.Linear(width, width, bias=bias_qk)
        self.key = nn.Linear(width, width, bias=bias_qk)
        self.value = nn.Linear(width, width, bias=bias)
        self.project = nn.Linear(width, width, bias=bias)
        self.norm_q = make_norm(block.post_qk, config.head_width)
        self.norm_k = make_norm(block.post_qk, config.head_width)
        self.gate = make_gate(config)

    def forward(self, x: Tensor, layer: str, observe: Observer | None) -> Tensor:
        batch, length, width = x.shape
        x_qk = self.norm_qk(x)
        x_v = x_qk if self.norm_v is None else self.norm_v(x)  # both (B, T, D)
        if observe is not None:
            observe("attention-input", layer, x_qk)
        split = (batch, length, self.heads, width // self.heads)  # (B, T, H, K): norm_q and norm_k act on each head
        q = self.norm_q(self.query(x_qk).view(split)).transpose(1, 2)  # (B, H, T, K)
        k = self.norm_k(self.key(x_qk).view(split)).transpose(1, 2)
        v = self.value(x_v).view(split).transpose(1, 2)
        if self.rope:
            cos, sin = rotary_angles(length, split[-1], x.device)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        # One kernel does all where it can: it neither shows the logits to an observer nor caps or clips them.
        if observe is None and self.cap is None and self.gamma == 0:
            mixed = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=self.causal)
        else:
            mixed = self._mix(q, k, v, layer, observe)  # (B, H, T, K)
        if self.alpha != 0:
            mixed = self.alpha * v + self.beta * mixed
        if self.gate is not None:
            mixed = self.gate(x_qk).to(mixed.dtype) * mixed
        return self.project(mixed.transpose(1, 2).reshape(batch, length, width))

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, layer: str, observe: Observer | None) -> Tensor:
        """softmax(cap(q k^T / sqrt(K)) + mask) v, the softmax in float32, -> (B, H, T, K)."""
        # Scaling q rather than the product keeps a float16 product within range.
        logits = (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).float()  # (B, H, T, T)
        if self.cap is not None:
            logits = self.cap * torch.tanh(logits / self.cap)
        if self.causal:
            logits = logits + causal_mask(logits.shape[-1], logits.device)
        if observe is not None:
            observe("attention-logits", layer, logits)
        weights = torch.softmax(logits, dim=-1)
        if self.gamma:
            weights = ((1 - self.gamma) * weights + self.gamma).clamp(0, 1)
        return weights.to(v.dtype) @ v


_MASKS: dict[tuple[int, torch.device], Tensor] = {}


def causal_mask(length: int, device: torch.device) -> Tensor:
    """A (T, T) matrix of 0 on and below the diagonal and -inf above it, made once for each length and device."""
    if (length, device) not in _MASKS:
        _MASKS[length, device] = torch.full((length, length), -torch.inf, device=device).triu(1)
    return _MASKS[length, device]


class FeedForward(nn.Module):
    """The MLP branch of a block: W_2 phi(alpha W_1 norm(x)), with W_1 (F, D) and W_2 (D, F)."""

    def __init__(self, config: TransformerConfig, place: int = 0) -> None:
        super().__init__()
        self.norm = make_norm(config.block.pre_mlp, config.width)
        self.input_scale = config.mlp_input_scales[place]
        self.activation, self.slope = config.activation, config.leaky_slope
        self.up = nn.Linear(config.width, config.mlp_width, bias=config.biases == "all")
        self.down = nn.Linear(config.mlp_width, config.width, bias=config.biases == "all")

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        hidden = self.up(x if self.input_scale == 1 else self.input_scale * x)  # (B, T, F)
        if self.activation == "gelu":
            return self.down(F.gelu(hidden))
        # In place: a linear layer does not need its output to be differentiated.
        return self.down(F.leaky_relu(hidden, self.slope, inplace=True) if self.slope else F.relu(hidden, inplace=True))


class Block(nn.Module):
    """The attention branch and then the MLP branch, each added to the stream with its gain.

    A block with Post-Norm normalises the stream after each of the two sums.
    """

    ROLES: ClassVar[dict[str, Role]] = {"attn_gain": "gain", "mlp_gain": "gain"}

    def __init__(self, config: TransformerConfig, place: int = 0, *, causal: bool = True) -> None:
        super().__init__()
        block, width = config.block, config.width
        self.place, self.dropout = place, config.dropout
        self.attention, self.mlp = Attention(config, causal=causal), FeedForward(config, place)
        self.attn_gain = make_gain(block, block.attn_gain, width)
        self.mlp_gain = make_gain(block, block.mlp_gain, width)
        self.post_norm_attn = make_norm(block.post_norm, width)
        self.post_norm_mlp = make_norm(block.post_norm, width)

    def forward(
        self, x: Tensor, layer: str = "", observe: Observer | None = None, drop: Tensor | None = None
    ) -> Tensor:
        attended = self._drop(self.attention(x, layer, observe), drop, 0)
        x = self.post_norm_attn(add_branch(x, self.attn_gain, attended))
        if observe is not None:
            observe("mlp-input", layer, x)
        return self.post_norm_mlp(add_branch(x, self.mlp_gain, self._drop(self.mlp(x), drop, 1)))

    def _drop(self, x: Tensor, keys: Tensor | None, branch: int) -> Tensor:
        return x if keys is None else dropped(x, keys, 2 * self.place + branch, self.dropout)


class Transformer(nn.Module):
    """Tokens (B, T) -> logits (B, T, V). Initialisation, drawn from torch's current generator:

    token and position embeddings, unembedding, every matrix    N(0, init_std^2)
    biases                                                      0
    norm gains                                                  1
    residual gains                                              as configured
    """

    ROLES: ClassVar[dict[str, Role]] = {"unembedding.weight": "embedding"}

    def __init__(self, config: TransformerConfig, vocab_size: int, max_length: int) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(vocab_size, config.width)
        self.position_embedding = nn.Embedding(max_length, config.width) if config.positions == "learnt" else None
        self.blocks = nn.ModuleList(Block(config, place) for place in range(config.layers))
        self.final_norm = make_norm(config.block.final_norm, config.width)
        self.unembedding = nn.Linear(config.width, vocab_size, bias=False)
        if config.tied:  # both are (V, D)
            self.unembedding.weight = self.token_embedding.weight
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.init_std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def embed(self, tokens: Tensor) -> Tensor:
        """Input of the first block, (B, T, D), float32."""
        x = self.config.embed_scale * self.token_embedding(tokens)
        if self.position_embedding is None:
            return x
        return torch.add(x, self.position_embedding.weight[: tokens.shape[1]], alpha=self.config.position_scale)

    def encode(
        self,
        tokens: Tensor,
        observe: Observer | None = None,
        blocks: int | None = None,
        drop: Tensor | None = None,
    ) -> Tensor:
        """The residual stream (B, T, D) after `blocks` blocks, or the input of the unembedding after all of them.

        Args:
            tokens: (B, T) token indices.
            observe: It is shown every named point on the way. Layers count from "1"; the last point is "unembed".
            blocks: The number of blocks after which to stop. All of them, and the final norm, if None.
            drop: (B,) keys of dropout, one for each sequence (`reproduce.models.dropout`). None: nothing is dropped.
        """
        x = self.embed(tokens)
        for index, block in enumerate(self.blocks[:blocks], start=1):
            if observe is not None:
                observe("residual", str(index), x)
            x = block(x, str(index), observe, drop)
        if blocks is not None:
            return x
        x = self.final_norm(x)
        if observe is not None:
            observe("residual", "unembed", x)
        return x

    def forward(self, tokens: Tensor, drop: Tensor | None = None) -> Tensor:
        return self.unembedding(self.encode(tokens, drop=drop))

    def next_token_loss(self, tokens: Tensor, drop: Tensor | None = None) -> Tensor:
        """Mean cross entropy in nats of each token but the first, given those before it, (B, T) -> ()."""
        hidden = self.encode(tokens, drop=drop)[:, :-1]  # (B, T - 1, D): the last token has no successor to predict
        return linear_cross_entropy(hidden.flatten(0, 1), self.unembedding.weight, tokens[:, 1:].flatten())
