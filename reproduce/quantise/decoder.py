"""The transformer of `reproduce.models.transformer`, written out so that each tensor passes through a named place.

A place is the identity until a quantiser is put there. Weights have the names that they have in `Transformer`, so that
kept weights load as they are, and the logits are the same in full precision. Training does not use this module: it has
no fused kernels and no dropout.

    embedding-sum                                     token and position embeddings, added
    norm-qk, norm-v, norm-mlp, final-norm             outputs of norms, where there are any
    query, key, value, project                        outputs of linear layers, before any scaling
    norm-q, norm-k                                    outputs of QK-Norm
    scores                                            q k^T / sqrt(K), before cap and mask
    probabilities                                     output of the softmax
    context                                           probabilities times values, before a gate
    up                                                output of the activation function
    down                                              output of the MLP
    attention-sum, mlp-sum                            the residual stream after each branch (and before a Post-Norm)

Shapes: B sequences, T tokens, D width, H heads, K = D / H, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reproduce.config import TransformerConfig
from reproduce.models.transformer import Transformer, make_gain, make_gate, make_norm, rotary_angles, rotate, strength


class Place(nn.Module):
    """A place at which a tensor may be quantised."""

    def __init__(self) -> None:
        super().__init__()
        self.quantiser: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        return x if self.quantiser is None else self.quantiser(x)


class _Placed(nn.Module):
    """A module with places. A place without a tensor of its own, such as that of a norm that is not there, is left out.

    Places are no part of the module's parameters, so that the names of weights are those of `Transformer`.
    """

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.places = nn.ModuleDict({name: Place() for name in names})

    def at(self, name: str, x: Tensor) -> Tensor:
        return self.places[name](x) if name in self.places else x


def _present(norms: dict[str, nn.Module | None]) -> list[str]:
    """The names of the norms that do something."""
    return [name for name, norm in norms.items() if norm is not None and not isinstance(norm, nn.Identity)]


class PlacedAttention(_Placed):
    """Attention with places at the outputs of its norms and linear layers, the scores, probabilities and context."""

    def __init__(self, config: TransformerConfig) -> None:
        block, width = config.block, config.width
        norm_qk = make_norm(block.pre_qk, width)
        norm_v = None if block.pre_v == block.pre_qk else make_norm(block.pre_v, width)
        norm_q, norm_k = (make_norm(block.post_qk, config.head_width) for _ in "qk")
        norms = _present({"norm-qk": norm_qk, "norm-v": norm_v, "norm-q": norm_q, "norm-k": norm_k})
        super().__init__([*norms, "query", "key", "value", "scores", "probabilities", "context", "project"])
        self.heads, self.rope = config.heads, config.positions == "rope"
        self.cap, self.gamma = block.tanh_cap, block.softmax_gamma
        self.alpha, self.beta = block.attn_alpha, block.attn_beta
        bias_qk, bias = config.biases != "none", config.biases == "all"
        self.norm_qk, self.norm_v, self.norm_q, self.norm_k = norm_qk, norm_v, norm_q, norm_k
        self.query = nn.Linear(width, width, bias=bias_qk)
        self.key = nn.Linear(width, width, bias=bias_qk)
        self.value = nn.Linear(width, width, bias=bias)
        self.project = nn.Linear(width, width, bias=bias)
        self.gate = make_gate(config)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, K)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        x_qk = self.at("norm-qk", self.norm_qk(x))
        x_v = x_qk if self.norm_v is None else self.at("norm-v", self.norm_v(x))
        q = self.at("norm-q", self.norm_q(self._heads(self.at("query", self.query(x_qk)))))
        k = self.at("norm-k", self.norm_k(self._heads(self.at("key", self.key(x_qk)))))
        v = self._heads(self.at("value", self.value(x_v)))
        if self.rope:
            cos, sin = rotary_angles(length, q.shape[-1], x.device)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        scores = self.at("scores", q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2))  # (B, H, T, T)
        if self.cap is not None:
            scores = self.cap * torch.tanh(scores / self.cap)
        mask = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        weights = torch.softmax(scores.masked_fill(mask, -torch.inf), dim=-1)
        if self.gamma:
            weights = ((1 - self.gamma) * weights + self.gamma).clamp(0, 1)
        mixed = self.at("probabilities", weights) @ v
        mixed = self.at("context", mixed if self.alpha == 0 else self.alpha * v + self.beta * mixed)
        if self.gate is not None:
            mixed = self.gate(x_qk) * mixed
        return self.at("project", self.project(mixed.transpose(1, 2).flatten(-2)))


class PlacedFeedForward(_Placed):
    """The MLP with places at the outputs of its norm, its activation function and its second layer."""

    def __init__(self, config: TransformerConfig, place: int) -> None:
        norm = make_norm(config.block.pre_mlp, config.width)
        super().__init__([*_present({"norm-mlp": norm}), "up", "down"])
        self.norm, self.input_scale = norm, config.mlp_input_scales[place]
        self.activation, self.slope = config.activation, config.leaky_slope
        self.up = nn.Linear(config.width, config.mlp_width, bias=config.biases == "all")
        self.down = nn.Linear(config.mlp_width, config.width, bias=config.biases == "all")

    def forward(self, x: Tensor) -> Tensor:
        x = self.at("norm-mlp", self.norm(x))
        hidden = self.up(x if self.input_scale == 1 else self.input_scale * x)
        hidden = F.gelu(hidden) if self.activation == "gelu" else F.leaky_relu(hidden, self.slope)
        return self.at("down", self.down(self.at("up", hidden)))


class PlacedBlock(_Placed):
    """A block with places at both residual sums, and after each Post-Norm."""

    def __init__(self, config: TransformerConfig, place: int) -> None:
        block, width = config.block, config.width
        norms = [make_norm(block.post_norm, width) for _ in range(2)]
        present = _present({"post-norm-attn": norms[0], "post-norm-mlp": norms[1]})
        super().__init__(["attention-sum", "mlp-sum", *present])
        self.attention, self.mlp = PlacedAttention(config), PlacedFeedForward(config, place)
        self.attn_gain = make_gain(block, block.attn_gain, width)
        self.mlp_gain = make_gain(block, block.mlp_gain, width)
        self.post_norm_attn, self.post_norm_mlp = norms

    def forward(self, x: Tensor) -> Tensor:
        x = self.at("attention-sum", x + strength(self.attn_gain) * self.attention(x))
        x = self.at("post-norm-attn", self.post_norm_attn(x))
        x = self.at("mlp-sum", x + strength(self.mlp_gain) * self.mlp(x))
        return self.at("post-norm-mlp", self.post_norm_mlp(x))


class Decoder(_Placed):
    """Tokens (B, T) -> logits (B, T, V), as `Transformer` does, through places.

    Args:
        config: the model. Its dropout is left out.
        vocab_size: V.
        max_length: rows of the table of positions.
        first_position: row of the first token's position, which is 2 in the tables of OPT's own checkpoints.
    """

    def __init__(self, config: TransformerConfig, vocab_size: int, max_length: int, first_position: int = 0) -> None:
        final_norm = make_norm(config.block.final_norm, config.width)
        super().__init__(["embedding-sum", *_present({"final-norm": final_norm})])
        self.config, self.first_position = config, first_position
        self.token_embedding = nn.Embedding(vocab_size, config.width)
        learnt = config.positions == "learnt"
        self.position_embedding = nn.Embedding(max_length, config.width) if learnt else None
        self.blocks = nn.ModuleList(PlacedBlock(config, place) for place in range(config.layers))
        self.final_norm = final_norm
        # The head is never quantised and the token embedding may be, so that each has a matrix of its own.
        self.unembedding = nn.Linear(config.width, vocab_size, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.config.embed_scale * self.token_embedding(tokens)
        if self.position_embedding is not None:
            positions = self.position_embedding.weight[self.first_position :][: tokens.shape[1]]
            x = torch.add(x, positions, alpha=self.config.position_scale)
        x = self.at("embedding-sum", x)
        for block in self.blocks:
            x = block(x)
        return self.unembedding(self.at("final-norm", self.final_norm(x)))


def decoder_of(model: nn.Module) -> Decoder:
    """A `Decoder` with copies of the weights of a `Transformer`, for evaluation."""
    assert isinstance(model, Transformer)
    weights = model.state_dict()
    positions = weights.get("position_embedding.weight")
    vocab_size = weights["token_embedding.weight"].shape[0]
    decoder = Decoder(model.config, vocab_size, 0 if positions is None else len(positions))
    decoder.load_state_dict({name: tensor.detach().float() for name, tensor in weights.items()})
    return decoder.eval().requires_grad_(False)
