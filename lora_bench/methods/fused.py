"""A LoRA layer as one forward and one backward, in place of PEFT's chain of small operations.

PEFT casts the input to the adapter's dtype, multiplies it by A and by B, scales, adds and casts back; autograd
then keeps every step of it. Here the adapter enters in the dtype of the base weight, the scale folded into A,
and its products are added into the buffers of the two large ones. Kept for the backward are the input and
x A^T. The base weight is never merged: in bf16 that would round small updates away.

The layer changes its class and nothing else: parameters, their names, saving, merging and switching adapters
are PEFT's. Whatever this path does not compute (several adapters, variants such as DoRA, biases in B, hooks on
a part, autocast, a trained base) goes to PEFT's own forward, decided at each call.

Axes: `N` tokens of all sequences, `I`/`O` in and out features, `R` rank.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners import lora
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

MIN_ROWS = 64
"""Tokens from which looking for rows without a gradient may pay."""


class _LoraProduct(torch.autograd.Function):
    """`x W^T + bias + scaling (x' A^T) B^T`; x' is x, or x after dropout. W and the bias get no gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dropped: Tensor | None, weight_OI: Tensor, bias_O: Tensor | None,
        lora_a_RI: Tensor, lora_b_OR: Tensor, scaling: float,
    ) -> Tensor:  # fmt: skip
        x_NI = x.reshape(-1, x.shape[-1])
        dropped_NI = x_NI if dropped is None else dropped.reshape(-1, x.shape[-1])
        scaled_a_RI = (lora_a_RI * scaling).to(weight_OI.dtype)
        b_OR = lora_b_OR.to(weight_OI.dtype)
        z_NR = linear(dropped_NI, scaled_a_RI)
        y_NO = linear(x_NI, weight_OI, bias_O).addmm_(z_NR, b_OR.t())
        # The input serves the gradient of A alone; LoRA-FA, whose A is frozen, keeps nothing of its width.
        kept_NI = dropped_NI if ctx.needs_input_grad[4] else None
        ctx.save_for_backward(kept_NI, z_NR, weight_OI, scaled_a_RI, b_OR)
        ctx.is_dropped, ctx.scaling, ctx.adapter_dtype = dropped is not None, scaling, lora_a_RI.dtype
        return y_NO.view(*x.shape[:-1], y_NO.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dropped_NI, z_NR, weight_OI, scaled_a_RI, b_OR = ctx.saved_tensors
        need_x, need_dropped, _, _, need_a, need_b, _ = ctx.needs_input_grad
        grad_NO = grad.reshape(-1, grad.shape[-1])
        rows = _rows_with_gradient(grad_NO)
        if rows is not None:
            grad_NO, z_NR = grad_NO[rows], z_NR[rows]
            dropped_NI = dropped_NI[rows] if need_a else None
        grad_z_NR = grad_NO @ b_OR
        grad_x = grad_dropped = grad_a = grad_b = None
        if need_x:
            grad_x = grad_NO @ weight_OI
            if not ctx.is_dropped:
                grad_x.addmm_(grad_z_NR, scaled_a_RI)
            grad_x = _spread(grad_x, rows, grad)
        if need_dropped:
            grad_dropped = _spread(grad_z_NR @ scaled_a_RI, rows, grad)
        if need_a:
            grad_a = (grad_z_NR.t() @ dropped_NI).to(ctx.adapter_dtype).mul_(ctx.scaling)
        if need_b:
            # The long side last: the product of the other order takes up to four times as long on a CPU.
            grad_b = (z_NR.t() @ grad_NO).t().to(ctx.adapter_dtype, memory_format=torch.contiguous_format)
        return grad_x, grad_dropped, None, None, grad_a, grad_b, None


def _rows_with_gradient(grad_NO: Tensor) -> Tensor | None:
    """The rows that are not zero where most are, else None.

    The last block of a classifier has a gradient at one token per text, that of a language model at the response
    alone; what the others add to any product is zero. On a CPU only: a GPU would have to wait for the answer.
    """
    if len(grad_NO) < MIN_ROWS or grad_NO.device.type != "cpu":
        return None
    # Eight rows tell most often; the odd stride keeps them off a position that is the same in each text.
    for some_NO in (grad_NO[1 :: (len(grad_NO) // 8) | 1], grad_NO):
        rows = some_NO.abs().sum(dim=1).nonzero().squeeze(1)  # A third of the time of `any`.
        if 2 * len(rows) > len(some_NO):
            return None
    return rows


def _spread(x_NI: Tensor, rows: Tensor | None, like: Tensor) -> Tensor:
    """Puts rows back among zeros, in the leading dimensions of `like`."""
    if rows is not None:
        x_NI = x_NI.new_zeros(like.shape[:-1].numel(), x_NI.shape[-1]).index_copy_(0, rows, x_NI)
    return x_NI.view(*like.shape[:-1], x_NI.shape[-1])


class FusedLinear(lora.Linear):  # type: ignore[misc]  # peft is skipped by mypy, so its class is Any
    """PEFT's LoRA layer with the forward above; made by `fuse`, never built."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Same shapes as PEFT's: (..., in_features) to (..., out_features), in the dtype of the base weight."""
        name = None if args or kwargs else self._fusable_adapter(x)
        if name is None:
            output: Tensor = super().forward(x, *args, **kwargs)
            return output
        base = self.base_layer
        dropped = self.lora_dropout[name](x)
        product: Tensor = _LoraProduct.apply(  # type: ignore[no-untyped-call]  # torch declares it so
            x,
            None if dropped is x else dropped,
            base.weight.t() if isinstance(base, Conv1D) else base.weight,
            base.bias,
            self.lora_A[name].weight,
            self.lora_B[name].weight,
            self.scaling[name],
        )
        return product

    def _fusable_adapter(self, x: Tensor) -> str | None:
        """The one adapter that acts on `x` and that `_LoraProduct` computes as PEFT would, or None."""
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return None
        name: str = self.active_adapters[0]
        if name not in self.lora_A or name in self.lora_variant or self.lora_bias[name]:
            return None
        base = self.base_layer
        if x.dtype != base.weight.dtype or torch.is_autocast_enabled(x.device.type):
            return None
        if base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad):
            return None
        parts = (base, self.lora_A[name], self.lora_B[name])
        return None if any(_has_hooks(part) for part in parts) else name


def fuse(net: nn.Module) -> int:
    """Gives PEFT's LoRA layers over `nn.Linear` and `Conv1D` the fused forward, in place; returns how many.

    Layers over anything else (quantised weights, convolutions, embeddings) keep PEFT's.
    """
    layers = [
        module
        for module in net.modules()
        if type(module) is lora.Linear and type(module.base_layer) in (nn.Linear, Conv1D)
    ]
    for layer in layers:
        layer.__class__ = FusedLinear
    return len(layers)


def unfuse(net: nn.Module) -> int:
    """Undoes `fuse`; returns how many layers it changed back."""
    layers = [module for module in net.modules() if type(module) is FusedLinear]
    for layer in layers:
        layer.__class__ = lora.Linear
    return len(layers)


def _has_hooks(module: nn.Module) -> bool:
    # Offloading, sharding and whoever looks at activations hook the parts, which the fused path never calls.
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
