"""Prefix-embedding tuning: the embeddings of some tokens before the text are trained (the LoRA paper's PreEmbed)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from lora_bench.config.methods import PrefixMethodConfig
from lora_bench.config.schema import RunConfig
from lora_bench.methods.base import Method, Placed, is_below
from lora_bench.methods.prefix import ACTIVATIONS, EMBEDDINGS, PrefixNet

PREFIX_FILE = "prefix.safetensors"


class PrefixEmbedMethod(Method):
    """A prefix and the task head; with LoRA below it where a method says so."""

    file: ClassVar[str] = PREFIX_FILE
    in_every_layer: ClassVar[bool] = False
    """Whether activations after each layer are trained too."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        assert isinstance(config.method, PrefixMethodConfig), "registered under its own config"
        self.num_tokens = config.method.num_tokens

    def apply(self, net: nn.Module, placed: Placed) -> nn.Module:
        """Freezes the base and wraps it."""
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(is_below(name, placed.head_modules))
        return self.wrap(net, placed)

    def wrap(self, net: nn.Module, placed: Placed) -> PrefixNet:
        """Puts the prefix before a network; an encoder is known by the norms after its parts."""
        is_after_first = any(layer.last_norm is not None for layer in placed.layers)
        layers = [layer.name for layer in placed.layers] if self.in_every_layer else []
        return PrefixNet(net, num_tokens=self.num_tokens, is_after_first=is_after_first, layers=layers)

    def merge(self, net: nn.Module) -> nn.Module | None:
        """Tokens are no matrix."""
        return None


def prefix_tensors(net: nn.Module) -> dict[str, Tensor]:
    """What the prefix itself trains."""
    return {name: value for name, value in net.named_parameters() if name in (EMBEDDINGS, ACTIVATIONS)}
