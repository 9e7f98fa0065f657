"""The contract of a method: what is trained, what is saved, how it merges, which parameters count.

A method is one file here, one YAML in `conf/method/` and one line in the table in `__init__.py`; the contract
tests then cover it. The shortest valid implementation is `full.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from lora_bench.config.schema import RunConfig


@dataclass(frozen=True)
class Placed:
    """Where a method may put something: full names of modules of the loaded model."""

    target_modules: tuple[str, ...]
    """Matrices that the placement names; fused ones have been split."""
    head_modules: tuple[str, ...]
    """The task head, trained by every method and counted apart; empty for a language model."""


class Method(ABC):
    """One way of adapting a pretrained model.

    `apply` is called once, by `run_benchmark`, on every process, after the weights were loaded and before
    they are moved or wrapped; everything else is called on the network that it returned.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    @abstractmethod
    def apply(self, net: nn.Module, placed: Placed) -> nn.Module:
        """Freezes what is not trained and adds what is. Draws from torch's global generator, which is seeded."""

    @abstractmethod
    def save(self, net: nn.Module, folder: Path) -> None:
        """Writes, as safetensors, what is needed beside the base to use what was trained. One process calls it."""

    @abstractmethod
    def load(self, net: nn.Module, folder: Path) -> None:
        """Puts what `save` wrote back into a network that `apply` returned."""

    @abstractmethod
    def merge(self, net: nn.Module) -> nn.Module | None:
        """A plain model with the same outputs, or None for a method that cannot merge. Uses `net` up."""

    def trained(self, net: nn.Module) -> dict[str, Tensor]:
        """The trained parameters by name, in the order of the network."""
        return {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}

    def num_head(self, net: nn.Module, placed: Placed) -> int:
        """Trained numbers of the task head."""
        return sum(
            parameter.numel() for name, parameter in self.trained(net).items() if is_below(name, placed.head_modules)
        )


def is_below(parameter_name: str, modules: Sequence[str]) -> bool:
    """Whether a parameter belongs to one of these modules, also behind PEFT's wrappers.

    >>> is_below("base_model.model.classifier.modules_to_save.default.weight", ["classifier"])
    True
    """
    plain = f".{parameter_name}."
    return any(f".{module}." in plain for module in modules)
