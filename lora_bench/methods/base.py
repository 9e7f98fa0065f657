"""The contract of a method: what is trained, what is saved, how it merges, what it does while training.

A method is one file here, one YAML in `conf/method/` and one line in the table in `__init__.py`; the contract
tests then cover it. The shortest valid implementation is `full.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from lora_bench.config.schema import RunConfig
from lora_bench.methods.tensors import TRAINED_FILE, load_trained, save_trained

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Layer:
    """The modules of one layer that methods put something at, by their full names in the loaded model."""

    name: str
    attention_out: str
    """The matrix that writes what attention found into the residual stream (the role o)."""
    mlp_out: str
    """The same of the feed-forward part (the role down)."""
    last_norm: str | None
    """The norm over the sum that ends the layer; None where norms come before the parts and the sum itself ends it."""


@dataclass(frozen=True)
class Placed:
    """Where a method may put something: full names of modules of the loaded model."""

    target_modules: tuple[str, ...]
    """Matrices that the placement names; fused ones have been split."""
    head_modules: tuple[str, ...]
    """The task head, trained by every method and counted apart; empty for a language model."""
    layers: tuple[Layer, ...] = ()
    """Every layer, from the input on."""
    has_encoder: bool = False
    """Whether the network is a decoder with an encoder, which reads the prompt."""
    active_experts: tuple[int, int] = (1, 1)
    """Experts that a token goes to, and all that a layer has."""
    by_role: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """`target_modules` by what they do in their layer."""
    split_modules: tuple[str, ...] = ()
    """Fused matrices that were split, so that some of `target_modules` are no modules of the plain architecture."""
    ranks: Mapping[str, int] = field(default_factory=dict)
    """Ranks of those whose rank is not `lora.r`."""
    notes: tuple[str, ...] = ()
    """What a reader of the result must know about how these were found."""


class Method(ABC):
    """One way of adapting a pretrained model.

    `apply` is called once, by `run_benchmark`, on every process, after the weights were loaded and before
    they are moved or wrapped; `see_data` next, where `needs_data`; everything else is called on the network that
    `apply` returned.

    Attributes:
        notes: What a reader of the result must know about how the method started and went.
    """

    changes_base: ClassVar[bool] = False
    """Whether weights of the base that are not trained are other ones afterwards (moved into the adapter, rounded)."""
    needs_data: ClassVar[bool] = False
    """Whether `see_data` has to be called before training."""
    file: ClassVar[str] = TRAINED_FILE
    """What `save` writes by default."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.notes: list[str] = []

    @abstractmethod
    def apply(self, net: nn.Module, placed: Placed) -> nn.Module:
        """Freezes what is not trained and adds what is. Draws from torch's global generator, which is seeded."""

    def save(self, net: nn.Module, folder: Path) -> None:
        """Writes, as safetensors, what is needed beside the base to use what was trained. One process calls it.

        The trained tensors by name, unless a method has another format.
        """
        save_trained(self.trained(net), folder, file=self.file)

    def load(self, net: nn.Module, folder: Path) -> None:
        """Puts what `save` wrote back into a network that `apply` returned."""
        load_trained(self.trained(net), folder, file=self.file)

    @abstractmethod
    def merge(self, net: nn.Module) -> nn.Module | None:
        """A plain model with the same outputs, or None for a method that cannot merge. Uses `net` up."""

    def see_data(self, net: nn.Module, batches: Iterator[Batch]) -> None:
        """Looks at training batches (endless, of `input_ids`, `attention_mask`, `labels`) before the first step."""
        return None

    def lr_factor(self, name: str) -> float:
        """The rate of a trained parameter as a multiple of the run's."""
        return 1.0

    def penalty(self, net: nn.Module) -> Tensor | None:
        """What is added to the loss once per step; in no reported loss."""
        return None

    def after_step(self, net: nn.Module, step: int) -> None:
        """Called after each update, while its gradients are there; steps count from 1."""
        return None

    def training_state(self) -> dict[str, Tensor]:
        """What a resume needs beside trained parameters and optimiser."""
        return {}

    def restore_training_state(self, net: nn.Module, tensors: dict[str, Tensor]) -> None:
        """The inverse of `training_state`."""
        return None

    def trained(self, net: nn.Module) -> dict[str, Tensor]:
        """The trained parameters by name, in the order of the network."""
        return {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}

    def saved(self, net: nn.Module) -> dict[str, Tensor]:
        """The parameters that `save` writes, by name: those that are trained, unless a method needs others."""
        return self.trained(net)

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
