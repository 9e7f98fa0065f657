"""LoRA (arXiv:2106.09685) through PEFT: W + scale * B A beside frozen weights.

The task head is trained as well and counted apart, as in the paper.
"""

from __future__ import annotations

from pathlib import Path

from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, TaskType, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn

from lora_bench.config.schema import AlphaConvention, LoraConfig, LoraInit, LoraMethodConfig, RunConfig
from lora_bench.methods.base import Method, Placed
from lora_bench.methods.fused import fuse, unfuse
from lora_bench.methods.quiet import quiet_peft

ADAPTER_FILE = "adapter_model.safetensors"
REFERENCE_RANK = 8
"""Rank at which `alpha_convention: proportional` scales as `constant` does (PEFT's default rank)."""


def lora_scaling(lora: LoraConfig) -> float:
    """The factor on B A: alpha / r, alpha / 8 or alpha / sqrt(r), by the convention."""
    if lora.alpha_convention is AlphaConvention.proportional:
        return lora.alpha / REFERENCE_RANK
    if lora.alpha_convention is AlphaConvention.rslora:
        return float(lora.alpha / lora.r**0.5)
    return lora.alpha / lora.r


class LoraMethod(Method):
    """Adapters on the placed matrices; merges without a trace."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        assert config.lora is not None, "resolve keeps the lora group for this method"
        assert isinstance(config.method, LoraMethodConfig), "registered under its own config"
        self.lora = config.lora
        self.fused = config.method.fused

    def apply(self, net: nn.Module, placed: Placed) -> nn.Module:
        """Adds A (random) and B (zero) to each placed matrix; the outputs are still those of the base."""
        with quiet_peft():
            wrapped = get_peft_model(net, self._peft_config(placed))
        if self.fused:
            fuse(wrapped)
        assert isinstance(wrapped, nn.Module), "PEFT wraps the network"
        return wrapped

    def save(self, net: nn.Module, folder: Path) -> None:
        """PEFT's own adapter folder."""
        # "auto" would ask the hub whether the vocabulary was resized; embeddings are frozen here.
        _peft(net).save_pretrained(str(folder), save_embedding_layers=False)

    def load(self, net: nn.Module, folder: Path) -> None:
        """The adapter and the head, by name."""
        outcome = set_peft_model_state_dict(_peft(net), load_file(folder / ADAPTER_FILE))
        if outcome.unexpected_keys:
            raise ValueError(f"{folder}: does not fit the model: unexpected {outcome.unexpected_keys[:3]}")

    def merge(self, net: nn.Module) -> nn.Module | None:
        """W + scale * B A in the dtype of W."""
        unfuse(net)
        merged = _peft(net).merge_and_unload(safe_merge=True)
        assert isinstance(merged, nn.Module), "PEFT returns the base model"
        return merged

    def _peft_config(self, placed: Placed) -> PeftLoraConfig:
        # PEFT knows alpha / r and alpha / sqrt(r); the third convention is the first with another alpha.
        alpha = lora_scaling(self.lora) * self.lora.r
        is_rslora = self.lora.alpha_convention is AlphaConvention.rslora
        return PeftLoraConfig(
            r=self.lora.r,
            lora_alpha=self.lora.alpha if is_rslora else alpha,
            use_rslora=is_rslora,
            lora_dropout=self.lora.dropout,
            init_lora_weights="gaussian" if self.lora.init is LoraInit.gaussian else True,
            target_modules=list(placed.target_modules),
            modules_to_save=list(placed.head_modules) or None,
            task_type=TaskType.SEQ_CLS if placed.head_modules else TaskType.CAUSAL_LM,
        )


def _peft(net: nn.Module) -> PeftModel:
    assert isinstance(net, PeftModel), "apply wraps the network"
    return net
