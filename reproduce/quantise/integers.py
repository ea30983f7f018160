"""Products in integer arithmetic, as a machine with int8 units computes them, beside the simulation in float32.

    y = s_x s_w ((q_x - z) q_w^T) = s_x s_w (q_x q_w^T - z 1 (q_w 1)^T)

`torch._int_mm` multiplies int8 and adds up in int32. It is silently wrong on some CPUs without VNNI, where pairs of
products saturate at 16 bits (pytorch issue 136746). It is therefore tried on the extremes first. Where it fails,
products are taken in float64, which is exact as long as sums stay below 2^53: 2^39 inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from reproduce.quantise.blocks import Blocks
from reproduce.quantise.grids import Grid
from reproduce.quantise.quantisers import Scheme

INNER = 256
"""Length of the inner axis in the self-test: long enough for several registers of any instruction set."""


@dataclass(frozen=True)
class Arithmetic:
    """How integer products are computed here."""

    fast: bool
    """Whether `torch._int_mm` is used."""
    why: str
    """What to tell a user."""

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """x (n, k) times weight (m, k) transposed, both int8, exactly: (n, m), int32 or float64."""
        if self.fast:
            return torch._int_mm(x.contiguous(), weight.T.contiguous())
        return x.double() @ weight.double().T


EXACT = Arithmetic(False, "integer products are taken in float64, which is exact")


@cache
def arithmetic(device: str = "cpu") -> Arithmetic:
    """The fastest arithmetic that passes the self-test on a type of device. The test runs once in a process."""
    try:
        wrong = _wrong(device)
    except (RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Arithmetic(False, f"torch._int_mm does not run here ({reason}): {EXACT.why}")
    if wrong:
        return Arithmetic(False, f"torch._int_mm gives wrong products here ({wrong}): {EXACT.why}")
    return Arithmetic(True, "integer products are taken by torch._int_mm, which passed its self-test")


def _wrong(device: str) -> str:
    """What is wrong with `torch._int_mm`, or nothing: all pairs of extremes, signs in turn, and random numbers."""
    ends = torch.tensor([-128, -127, -1, 0, 1, 127], dtype=torch.int8)
    rows = ends.repeat_interleave(INNER).view(-1, INNER)
    alternating = torch.where(torch.arange(INNER) % 2 == 0, 127, -128).to(torch.int8)
    random = torch.randint(-128, 128, (11, INNER), generator=torch.Generator().manual_seed(0), dtype=torch.int8)
    # 24 rows, since on a GPU the kernel wants more than 16 and a multiple of 8.
    x = torch.cat([rows, rows.flip(1), alternating[None], random]).to(device)
    got = torch._int_mm(x, x.T.contiguous()).cpu()
    wanted = x.cpu().long() @ x.cpu().long().T
    bad = (got.long() != wanted).nonzero()
    if not len(bad):
        return ""
    row, column = bad[0].tolist()
    return f"{int(got[row, column])} instead of {int(wanted[row, column])}"


def integer_linear(
    x: tuple[Grid, Blocks], weight: tuple[Grid, Blocks], bias: Tensor | None, how: Arithmetic | None = None
) -> Tensor:
    """The linear layer of quantised inputs and a quantised weight of 8 bits each: (..., k) -> (..., m), float32.

    Args:
        x: grid and blocks of the inputs, as `Scheme.fit` gives them: one scale a tensor, or one a token.
        weight: grid and blocks of the weight (m, k): symmetric, one scale a tensor, or one a channel.
        bias: (m,).
        how: the arithmetic; by default the fastest that is right here.
    """
    grid_x, blocks_x = x
    grid_w, blocks_w = weight
    levels = blocks_w.restore(grid_w.integers(blocks_w.rows))  # (m, k)
    if grid_w.high > 127:
        raise ValueError("integer products take signed weights of at most 8 bits")
    shift = 128 if grid_x.high > 127 else 0  # levels 0 .. 255 become -128 .. 127
    inputs = blocks_x.restore(grid_x.integers(blocks_x.rows) - shift)  # (..., k)
    how = how or arithmetic(levels.device.type)
    flat, matrix = inputs.reshape(-1, inputs.shape[-1]).to(torch.int8), levels.to(torch.int8)
    product = how.product(flat, matrix)  # (n, m)
    zero = (grid_x.zero_point - shift).view(-1, 1).double()  # (n or 1, 1)
    exact = product.double() - zero * matrix.double().sum(1)
    y = (grid_x.scale.view(-1, 1) * grid_w.scale.view(1, -1)).double() * exact
    y = y if bias is None else y + bias.double()
    return y.float().view(*inputs.shape[:-1], -1)


class IntegerLinear(nn.Module):
    """A linear layer whose products are of integers: the same as its simulation, up to float32 rounding."""

    def __init__(self, linear: nn.Linear, weight: Scheme, activation: Scheme) -> None:
        super().__init__()
        self.weight, self.bias = weight.fit(linear.weight.data), linear.bias
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return integer_linear(self.activation.fit(x), self.weight, self.bias)
