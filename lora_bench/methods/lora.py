"""LoRA (arXiv:2106.09685) through PEFT: W + scale * B A beside frozen weights.

The task head is trained as well and counted apart, as in the paper. rsLoRA is the same with another scale.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from peft import LoraConfig as PeftLoraConfig
from peft.tuners.lora import Embedding
from torch import nn

from lora_bench.config.methods import AlphaConvention, FusableMethodConfig, LoraInit
from lora_bench.config.schema import LoraConfig, RunConfig
from lora_bench.methods.adapted import PREFIX, AdaptedMethod, task_words
from lora_bench.methods.base import Placed
from lora_bench.methods.fused import fuse, unfuse

REFERENCE_RANK = 8
"""Rank at which `alpha_convention: proportional` scales as `constant` does (PEFT's default rank)."""


def lora_scaling(lora: LoraConfig, r: int | None = None) -> float:
    """The factor on B A: alpha / r, alpha / 8 or alpha / sqrt(r), by the convention; `r` is `lora.r` if not given."""
    r = lora.r if r is None else r
    if lora.alpha_convention is AlphaConvention.proportional:
        return lora.alpha / REFERENCE_RANK
    if lora.alpha_convention is AlphaConvention.rslora:
        return float(lora.alpha / r**0.5)
    return lora.alpha / r


class LoraMethod(AdaptedMethod):
    """Adapters on the placed matrices; merges without a trace."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        assert config.lora is not None, "resolve keeps the lora group for this method"
        self.lora = config.lora
        self.fused = isinstance(config.method, FusableMethodConfig) and config.method.fused

    def apply(self, net: nn.Module, placed: Placed) -> nn.Module:
        """Adds A (random) and B (zero) to each placed matrix; the outputs are still those of the base."""
        wrapped = super().apply(net, placed)
        if self.fused:
            fuse(wrapped)
        return wrapped

    def merge(self, net: nn.Module) -> nn.Module | None:
        """W + scale * B A in the dtype of W."""
        unfuse(net)
        return super().merge(net)

    def peft_config(self, placed: Placed) -> PeftLoraConfig:
        """PEFT's words for ours."""
        return PeftLoraConfig(**self.peft_words(placed))

    def peft_words(self, placed: Placed) -> dict[str, Any]:
        """The arguments of PEFT's configuration; what varies LoRA changes some."""
        return {
            "r": self.lora.r,
            "lora_alpha": self._peft_alpha(self.lora.r),
            "use_rslora": self.lora.alpha_convention is AlphaConvention.rslora,
            "rank_pattern": (ranks := _patterns(placed.ranks)),
            "alpha_pattern": {name: self._peft_alpha(r) for name, r in ranks.items()},
            "lora_dropout": self.lora.dropout,
            "init_lora_weights": "gaussian" if self.lora.init is LoraInit.gaussian else True,
            "target_modules": list(placed.target_modules),
            "bias": self.lora.bias.value,
            **task_words(placed),
        }

    def _peft_alpha(self, r: int) -> float:
        """PEFT knows alpha / r and alpha / sqrt(r); the third convention is the first with another alpha."""
        is_rslora = self.lora.alpha_convention is AlphaConvention.rslora
        return self.lora.alpha if is_rslora else lora_scaling(self.lora, r) * r


def _patterns(ranks: Mapping[str, int]) -> dict[str, int]:
    """As PEFT matches them, which is one by one for each module: all experts of a layer as one."""
    return {re.sub(r"\.experts\.\d+\.", r".experts.\\d+.", name): r for name, r in ranks.items()}


def lora_layers(net: nn.Module) -> dict[str, Any]:
    """PEFT's LoRA layers over matrices, by the names of the modules that they replaced."""
    return {
        name.removeprefix(PREFIX): module
        for name, module in net.named_modules()
        if hasattr(module, "lora_A") and hasattr(module, "base_layer") and not isinstance(module, Embedding)
    }
