"""QLoRA (arXiv:2305.14314): LoRA beside a base in four bits."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lora_bench.methods.adapted import peft_model
from lora_bench.methods.base import Placed
from lora_bench.methods.lora import LoraMethod, lora_layers
from lora_bench.methods.quantised import dequantise, quantise, weight_of


class QloraMethod(LoraMethod):
    """All matrices of all layers in NF4, whatever is placed; the adapters compute in fp32."""

    changes_base: ClassVar[bool] = True

    def apply(self, net: nn.Module, placed: Placed) -> nn.Module:
        """Rounds the base, then adds adapters as LoRA does."""
        names = self.quantise(net, placed)
        four_bit: Any = net
        # PEFT looks for the marks of a model that transformers has quantised; whoever prepares a network for a device
        # must not find them, since this one can be moved like any other.
        four_bit.is_loaded_in_4bit = True
        wrapped = super().apply(net, placed)
        del four_bit.is_loaded_in_4bit
        self.notes.append(
            f"{self.config.method.name}: {len(names)} matrices of the base rounded to NF4, double quantisation"
        )
        return wrapped

    def quantise(self, net: nn.Module, placed: Placed) -> list[str]:
        """Rounds the matrices; returns their names."""
        return quantise(net, placed)

    @torch.no_grad()
    def merge(self, net: nn.Module) -> nn.Module | None:
        """A whole model: what the four bits stand for, plus the adapter; rounding the sum would lose much of it."""
        dequantise(net)
        base = peft_model(net).get_base_model()
        for name, layer in lora_layers(net).items():
            whole: Any = layer.get_base_layer()
            if isinstance(whole, nn.Embedding):
                continue  # It was not packed.
            sum_OI = weight_of(whole).float() + layer.get_delta_weight("default")
            whole.weight.copy_(sum_OI.T if isinstance(whole, Conv1D) else sum_OI)
            base.set_submodule(name, whole)
        return super().merge(net)
