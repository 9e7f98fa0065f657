"""Methods that train a part of what is there and add nothing: all of it is the base model again, trained."""

from __future__ import annotations

from abc import abstractmethod

from torch import nn

from lora_bench.methods.base import Method, Placed, is_below


class SubsetMethod(Method):
    """Trains the parameters that `chooses` names, and the task head."""

    @abstractmethod
    def chooses(self, name: str, placed: Placed) -> bool:
        """Whether this parameter of the base is trained."""

    def apply(self, net: nn.Module, placed: Placed) -> nn.Module:
        """Freezes the rest."""
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(is_below(name, placed.head_modules) or self.chooses(name, placed))
        return net

    def merge(self, net: nn.Module) -> nn.Module | None:
        """Nothing was added."""
        return net
