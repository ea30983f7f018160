"""Two operations whose backward pass is written out, because automatic differentiation makes it slow on a CPU.

    rms_norm               x / (rms(x) + eps) * gain               keeps x and one number a row
    linear_cross_entropy   cross entropy of the logits H W^T       keeps no logits

Both compute the equations of their docstrings and nothing else. The tests compare them, and their gradients, with
automatic differentiation of those equations. Neither can be differentiated twice.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from reproduce.models.size import logit_rows


class _RmsNorm(torch.autograd.Function):
    """y = s x g with s = 1 / (r + eps) and r = rms(x), for each row x (d,).

    With h = g * dL/dy, and dr/dx = x / (d r):

        dL/dx = s h - s^2 (h . x) / (d r) x        dL/dg = sum over rows of s x * dL/dy
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor | None, eps: float) -> Tensor:
        rms = torch.linalg.vector_norm(x, dim=-1, keepdim=True).div_(math.sqrt(x.shape[-1]))  # (..., 1)
        scale = (rms + eps).reciprocal_()
        ctx.save_for_backward(x, gain, rms, scale)
        y = x * scale
        return y if gain is None else y * gain

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, gain, rms, scale = ctx.saved_tensors
        d_gain = None
        if gain is not None and ctx.needs_input_grad[1]:
            d_gain = torch.mul(x, scale).mul_(dy).flatten(0, -2).sum(dim=0)
        if not ctx.needs_input_grad[0]:
            return None, d_gain, None
        h = dy if gain is None else dy * gain
        along = torch.linalg.vecdot(h, x).unsqueeze(-1)  # h . x, (..., 1)
        # A row of zeros has h . x = 0, so any divisor will do that is not 0.
        share = along * scale.square() / (rms * x.shape[-1]).clamp_(min=torch.finfo(rms.dtype).tiny)
        return (h * scale).addcmul_(x, share, value=-1), d_gain, None


def rms_norm(x: Tensor, gain: Tensor | None, eps: float) -> Tensor:
    """x / (rms(x) + eps) over the last axis, times `gain` if there is one; rms(x)^2 is the mean of x_j^2.

    Args:
        x: (..., d) float32.
        gain: (d,), or None.
        eps: stands outside the root.
    """
    return _RmsNorm.apply(x, gain, eps)


class _LinearCrossEntropy(torch.autograd.Function):
    """L = 1/n sum_i (log sum_v exp z_iv - z_it(i)) with Z = H W^T, which is differentiated in the forward pass:

        P = softmax(Z) - onehot(t)        dL/dH = P W / n        dL/dW = P^T H / n

    so that no logits are kept. The rows are taken in chunks, one after the other.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, product_type: torch.dtype, differentiate: bool
    ) -> Tensor:
        rows = len(hidden)
        H, W = hidden.to(product_type), weight.to(product_type)
        dH, dW = (torch.empty_like(x, dtype=torch.float32) if differentiate else None for x in (hidden, weight))
        total = torch.zeros((), device=hidden.device)
        size = logit_rows(len(weight), hidden.device.type)
        for start in range(0, rows, size):
            part = slice(start, start + size)
            target = targets[part, None]  # (c, 1)
            z = (H[part] @ W.T).float()  # (c, V)
            # The softmax in place: a large vocabulary's logits fill no cache, and each pass over them is felt.
            z -= z.amax(dim=-1, keepdim=True)
            at_target = z.gather(1, target)
            norm = z.exp_().sum(dim=-1, keepdim=True)  # (c, 1)
            total += (norm.log() - at_target).sum()
            if dH is None or dW is None:
                continue
            p = z.div_(norm)
            p.scatter_add_(1, target, p.new_full((1, 1), -1.0).expand_as(target))
            P = p.to(product_type)
            dH[part] = P @ W
            if product_type == dW.dtype:
                dW.addmm_(P.T, H[part], beta=min(start, 1))  # with beta 0, what was in dW does not count
            elif start == 0:
                dW.copy_(P.T @ H[part])
            else:
                dW += P.T @ H[part]
        ctx.rows = rows
        ctx.save_for_backward(dH, dW)
        return total / rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        # The division by n comes here and not above, where entries of P / n could become 0 in float16. Both tensors
        # are changed in place, and torch refuses a second backward pass for it.
        factor = factor / ctx.rows
        dH, dW = ctx.saved_tensors
        return dH.mul_(factor), dW.mul_(factor), None, None, None


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy in nats of the logits `hidden @ weight.T`, with a softmax in float32, -> ().

    Under autocast the products have its type, as those of a linear layer have.

    Args:
        hidden: (n, d) float32.
        weight: (V, d) float32.
        targets: (n,) int64, indices into V.
    """
    device = hidden.device.type
    product_type = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    differentiate = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    with torch.autocast(device, enabled=False):
        return _LinearCrossEntropy.apply(hidden, weight, targets, product_type, differentiate)
