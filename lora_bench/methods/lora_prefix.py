"""LoRA and a prefix together, as in the LoRA paper's table 15 (LoRA+PE and LoRA+PL)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from torch import nn

from lora_bench.config.schema import RunConfig
from lora_bench.methods.base import Placed
from lora_bench.methods.lora import LoraMethod
from lora_bench.methods.prefix import PrefixNet
from lora_bench.methods.prefix_embed import PREFIX_FILE, PrefixEmbedMethod, prefix_tensors
from lora_bench.methods.tensors import load_trained, save_trained


class LoraPrefixEmbedMethod(PrefixEmbedMethod):
    """LoRA's adapters below, trained tokens before the text."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.lora = LoraMethod(config)

    def apply(self, net: nn.Module, placed: Placed) -> nn.Module:
        """First the adapters, then the tokens."""
        wrapped = self.lora.apply(net, placed)
        self.lora.departs = self.lora.departs or "trained tokens before the text belong to it"
        return self.wrap(wrapped, placed)

    def save(self, net: nn.Module, folder: Path) -> None:
        """PEFT's own adapter folder, and the prefix beside it."""
        assert isinstance(net, PrefixNet), "apply wraps the network"
        self.lora.save(net.net, folder)
        save_trained(prefix_tensors(net), folder, file=PREFIX_FILE)

    def load(self, net: nn.Module, folder: Path) -> None:
        """The inverse."""
        assert isinstance(net, PrefixNet), "apply wraps the network"
        self.lora.load(net.net, folder)
        load_trained(prefix_tensors(net), folder, file=PREFIX_FILE)


class LoraPrefixLayerMethod(LoraPrefixEmbedMethod):
    """The same with activations in every layer."""

    in_every_layer: ClassVar[bool] = True
