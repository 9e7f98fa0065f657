"""Dropout for the CPU that draws the distances between dropped numbers, not one decision for each number.

Under dropout with probability p the runs of kept numbers are geometrically distributed, so p N uniform numbers
describe a mask of N; they become distances by inversion (Devroye, "Non-Uniform Random Variate Generation", 1986,
X.2). The masks have exactly dropout's distribution, up to the 24 bits of a uniform number. PyTorch asks the generator
N times, one after the other: a quarter of a bf16 training step of MiniLM was spent there. What is kept for the
backward pass is the list of positions.

Masks follow `torch.manual_seed` and the saved state of the generator, but are not PyTorch's for the same seed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def draw_dropped(count: int, p: float) -> Tensor:
    """Positions in `range(count)` that are dropped, each with probability `p` in (0, 1); ascending, int64."""
    expected = count * p
    # Six standard deviations more than are needed on average, so that one round is enough.
    uniform = torch.rand(int(expected + 6 * math.sqrt(expected)) + 10)
    kept_between = uniform.neg_().add_(1).log_().div_(math.log1p(-p))
    positions = kept_between.to(torch.int64).add_(1).cumsum(0).sub_(1)
    end = int(positions[-1]) + 1
    if end < count:
        return torch.cat([positions, draw_dropped(count - end, p) + end])
    return positions[: int(torch.searchsorted(positions, count))]


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        dropped, ctx.scale = draw_dropped(x.numel(), p), 1 / (1 - p)
        ctx.save_for_backward(dropped)
        return drop(x, dropped, ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (dropped,) = ctx.saved_tensors
        return drop(grad, dropped, ctx.scale), None


def drop(x: Tensor, dropped: Tensor, scale: float) -> Tensor:
    """A contiguous copy of `x` times `scale`, with zeros at these positions of its flat order."""
    kept = x.contiguous() * scale
    kept.view(-1).index_fill_(0, dropped, 0)
    return kept


class FastDropout(nn.Dropout):
    """`nn.Dropout` with the mask above on a CPU and PyTorch's everywhere else."""

    def forward(self, x: Tensor) -> Tensor:
        """Same shape and dtype; the input itself in eval mode."""
        if not self.training or not 0 < self.p < 1 or x.device.type != "cpu":
            return super().forward(x)
        dropped: Tensor = _Dropout.apply(x, self.p)  # type: ignore[no-untyped-call]  # torch declares it so
        return dropped


def use_fast_dropout(net: nn.Module) -> int:
    """Changes every `nn.Dropout` of the network in place; returns how many."""
    layers = [module for module in net.modules() if type(module) is nn.Dropout and not module.inplace]
    for layer in layers:
        layer.__class__ = FastDropout
    return len(layers)
