"""Matrices in four bits: NF4 with double quantisation (QLoRA, arXiv:2305.14314), through bitsandbytes.

The weights are loaded whole and rounded matrix by matrix, so that any source of weights serves, fused matrices that
were split included; the peak while loading is that of the whole model. Embeddings, norms and heads stay whole.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lora_bench.methods.base import Placed, is_below

QUANT_TYPE = "nf4"


def quantise(net: nn.Module, placed: Placed, replaced: dict[str, Tensor] | None = None) -> list[str]:
    """Puts every matrix of every layer into four bits, in place; returns their names.

    Args:
        net: A network as it was loaded and split.
        placed: Its layers.
        replaced: Values to round in place of a matrix's own, shape (out, in), by name.
    """
    layers = [layer.name for layer in placed.layers]
    matrices = [name for name, module in net.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    names = [name for name in matrices if is_below(name, layers)]
    for name in names:
        net.set_submodule(name, _four_bit(net.get_submodule(name), (replaced or {}).get(name)))
    return names


def dequantised(module: Any) -> Tensor:
    """What the four bits stand for, shape (out, in), in the dtype that products are computed in."""
    from bitsandbytes.functional import dequantize_4bit

    weight_OI: Tensor = dequantize_4bit(module.weight.data, module.weight.quant_state).to(module.compute_dtype)
    return weight_OI


@torch.no_grad()
def dequantise(net: nn.Module) -> None:
    """Puts what the four bits stand for in their place, in whole matrices, so that the base has no four bits left."""
    for name, module in list(net.named_modules()):
        if hasattr(module, "was_conv1d"):
            net.set_submodule(name, whole_matrix(module, dequantised(module)))


def rounded(weight_OI: Tensor) -> Tensor:
    """A matrix after a round trip through four bits, same shape and dtype."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(weight_OI.contiguous(), quant_type=QUANT_TYPE, compress_statistics=True)
    back_OI: Tensor = dequantize_4bit(packed, state).to(weight_OI.dtype)
    return back_OI


def weight_of(module: nn.Module) -> Tensor:
    """Of a whole matrix, shape (out, in)."""
    weight: Any = module.weight
    detached: Tensor = weight.detach()
    return detached.T if isinstance(module, Conv1D) else detached


def whole_matrix(module: Any, weight_OI: Tensor) -> nn.Module:
    """A plain layer of the kind that this one was, with these values."""
    out_features, in_features = weight_OI.shape
    with torch.device("meta"):
        if module.was_conv1d:
            plain: nn.Module = Conv1D(out_features, in_features)
        else:
            plain = nn.Linear(in_features, out_features, bias=module.bias is not None)
    values = weight_OI.T if module.was_conv1d else weight_OI
    plain.weight = nn.Parameter(values.contiguous(), requires_grad=False)
    plain.bias = module.bias
    return plain


def _four_bit(module: nn.Module, replaced_OI: Tensor | None) -> nn.Module:
    from bitsandbytes.nn import Linear4bit, Params4bit

    weight_OI = (weight_of(module) if replaced_OI is None else replaced_OI).contiguous()
    bias: Any = module.bias
    packed: Any = Linear4bit(
        weight_OI.shape[1],
        weight_OI.shape[0],
        bias=bias is not None,
        compute_dtype=weight_OI.dtype,
        compress_statistics=True,
        quant_type=QUANT_TYPE,
        device="meta",
    )
    packed.weight = Params4bit(
        weight_OI, requires_grad=False, compress_statistics=True, quant_type=QUANT_TYPE, module=packed
    ).to(weight_OI.device)
    packed.bias = bias
    packed.was_conv1d = isinstance(module, Conv1D)
    # On such CPUs the first evaluation packs the weights for a kernel without a backward pass and never unpacks them:
    # from then on every gradient is 0, silently (bitsandbytes 0.50; can go when it unpacks in training mode).
    packed.support_avx512bf16_for_cpu = False
    four_bit: nn.Module = packed
    return four_bit
