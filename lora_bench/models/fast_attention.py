"""Attention for short sequences on a CPU, as one forward and one backward.

PyTorch's fused attention falls back to single operations where there is dropout, and its bf16 backward is slow on
a CPU (a layer of MiniLM at 64 x 32 tokens takes 28 ms there and 4 ms here). This computes what the `eager`
implementation of transformers computes, and keeps for the backward q, k, v, the probabilities and the
positions that were dropped.

It holds the probabilities, which grow with the square of the length, so longer sequences go to `sdpa`.

Axes: `B` sequences, `H` heads, `T` queries, `S` keys, `D` features of a head; `G` is B x H.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import eager_mask

from lora_bench.models.fast_dropout import draw_dropped, drop

NAME = "lora_bench_cpu"
"""Name of this implementation in transformers' table of attention functions."""
MAX_KEYS = 256
"""Longest sequence without dropout. At 512 keys this still wins in bf16 (20 ms against 55) and loses in fp32."""


class _Attention(torch.autograd.Function):
    """`dropout(softmax(scale q k^T + bias)) v`, shape (B, T, H, D)."""

    @staticmethod
    def forward(
        ctx: Any, q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, bias: Tensor | None, scale: float, p: float
    ) -> Tensor:
        shape, num_keys = q_BHTD.shape, k_BHSD.shape[2]
        # The scales of scores and of dropout go into the copies that q and v need anyway.
        q_GTD, v_GSD = _scaled_heads(q_BHTD, scale), _scaled_heads(v_BHSD, 1 / (1 - p))
        k_GSD = k_BHSD.flatten(0, 1)
        scores_GTS = torch.bmm(q_GTD, k_GSD.transpose(1, 2))
        if bias is not None:
            scores_GTS.view(*shape[:3], num_keys).add_(bias)
        weights_GTS = torch.softmax(scores_GTS, dim=-1)
        dropped = draw_dropped(weights_GTS.numel(), p) if p > 0 else None
        ctx.save_for_backward(q_GTD, k_GSD, v_GSD, weights_GTS, dropped)
        ctx.shape, ctx.scale, ctx.p = shape, scale, p
        return torch.bmm(_without(weights_GTS, dropped), v_GSD).view(shape).transpose(1, 2).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTHD: Tensor) -> tuple[Tensor | None, ...]:
        q_GTD, k_GSD, v_GSD, weights_GTS, dropped = ctx.saved_tensors
        grad_GTD = grad_BTHD.transpose(1, 2).flatten(0, 1)
        grad_weights_GTS = torch.bmm(grad_GTD, v_GSD.transpose(1, 2))
        if dropped is not None:
            grad_weights_GTS.view(-1).index_fill_(0, dropped, 0)
        grad_scores_GTS = torch._softmax_backward_data(grad_weights_GTS, weights_GTS, -1, weights_GTS.dtype)
        grad_q_GTD = torch.bmm(grad_scores_GTS, k_GSD).mul_(ctx.scale)
        grad_k_GSD = torch.bmm(grad_scores_GTS.transpose(1, 2), q_GTD)
        grad_v_GSD = torch.bmm(_without(weights_GTS, dropped).transpose(1, 2), grad_GTD).mul_(1 / (1 - ctx.p))
        grads_GXD = (grad_q_GTD, grad_k_GSD, grad_v_GSD)
        return *(grad.view(*ctx.shape[:2], *grad.shape[1:]) for grad in grads_GXD), None, None, None


def _scaled_heads(x_BHTD: Tensor, scale: float) -> Tensor:
    """`scale * x` as contiguous (G, T, D), in one pass."""
    return torch.mul(x_BHTD, scale, out=torch.empty(x_BHTD.shape, dtype=x_BHTD.dtype)).flatten(0, 1)


def _without(weights_GTS: Tensor, dropped: Tensor | None) -> Tensor:
    """The weights with zeros at these flat positions; they themselves are needed for the gradient of the softmax."""
    return weights_GTS if dropped is None else drop(weights_GTS, dropped, 1.0)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """An attention function as transformers calls it: (B, H, T, D) each, additive mask; returns (B, T, H, D)."""
    if not _is_ours(module, query, key, attention_mask, dropout, kwargs):
        output: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return output
    num_groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, num_groups), repeat_kv(value, num_groups)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    attended: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]  # torch declares it so
        query, key, value, attention_mask, scale, dropout
    )
    return attended, None


def use_fast_attention(net: PreTrainedModel) -> bool:
    """Gives a model that runs with `sdpa` the function above; False, and no change, for others.

    `eager` is left alone: some architectures need it for terms of their own in the scores.
    """
    if net.config._attn_implementation != "sdpa" or not net._can_set_attn_implementation():
        return False
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, eager_mask)
    net.set_attn_implementation(NAME)
    return True


def _is_ours(
    module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, dropout: float, options: dict[str, Any]
) -> bool:
    if query.device.type != "cpu" or query.dtype != key.dtype or torch.is_autocast_enabled("cpu") or dropout >= 1:
        return False
    # With dropout sdpa holds the probabilities too, whatever the length.
    if dropout == 0 and key.shape[2] > MAX_KEYS:
        return False
    if any(options.get(name) is not None for name in ("softcap", "s_aux", "position_bias", "cache")):
        return False
    if mask is None:
        return not options.get("is_causal", getattr(module, "is_causal", False))
    return mask.dtype == query.dtype and not mask.requires_grad
