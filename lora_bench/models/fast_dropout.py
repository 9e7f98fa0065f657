"""Dropout for the CPU at a sixth of the cost: 16 random bits for each number, cut from 64-bit words.

PyTorch draws a CPU mask one Bernoulli number at a time, which took a quarter of a bf16 training step of MiniLM. Here
one call of the same generator fills whole words, and each decides about four numbers. So the probability is
a multiple of 2^-16 (0.1 becomes 0.100006); what is kept is scaled by its exact inverse, so expectations stay.
Masks follow `torch.manual_seed` and the saved state of the generator, but are not PyTorch's for the same seed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LEVELS = 2**16
"""Values of the 16 bits that decide about one number."""


def draw_mask(like: Tensor, p: float) -> tuple[Tensor, float]:
    """Zeros (with probability `p`) and ones of this shape and dtype, and the scale for what is kept."""
    num_dropped = round(p * LEVELS)
    words = torch.empty((like.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[: like.numel()].view(like.shape)
    mask = torch.ge(bits, num_dropped - LEVELS // 2, out=torch.empty(like.shape, dtype=like.dtype))
    return mask, LEVELS / (LEVELS - num_dropped)


def apply_mask(x: Tensor, mask: Tensor, scale: float) -> Tensor:
    """`scale * x * mask` in one pass, rounded once: 1 / 0.9 written into a bf16 mask would be 0.16 % too small."""
    return torch.addcmul(torch.zeros((), dtype=x.dtype), x, mask, value=scale)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        mask, ctx.scale = draw_mask(x, p)
        ctx.save_for_backward(mask)
        return apply_mask(x, mask, ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return apply_mask(grad, mask, ctx.scale), None


class FastDropout(nn.Dropout):
    """`nn.Dropout` with the mask above on a CPU and PyTorch's everywhere else."""

    def forward(self, x: Tensor) -> Tensor:
        """Same shape and dtype; the input itself in eval mode."""
        if not self.training or not is_drawable(x, self.p):
            return super().forward(x)
        dropped: Tensor = _Dropout.apply(x, self.p)  # type: ignore[no-untyped-call]  # torch declares it so
        return dropped


def is_drawable(x: Tensor, p: float) -> bool:
    """Whether `draw_mask` can serve: on a CPU, and `p` neither 0 nor 1 after rounding to 16 bits."""
    return x.device.type == "cpu" and 0 < round(p * LEVELS) < LEVELS


def use_fast_dropout(net: nn.Module) -> int:
    """Changes every `nn.Dropout` of the network in place; returns how many."""
    layers = [module for module in net.modules() if type(module) is nn.Dropout and not module.inplace]
    for layer in layers:
        layer.__class__ = FastDropout
    return len(layers)
