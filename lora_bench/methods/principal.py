"""Adapters that start with a part of the matrix, which is taken out of the base: what PiSSA and OLoRA share.

The base becomes W - scale * B0 A0, so that the sum with the adapter is W at the start. Computed in fp32 here and not
by PEFT, whose OLoRA takes a `Conv1D` for its transpose.

A0 and B0 are saved beside the adapter: without them nobody could use it on the base as it was.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lora_bench.methods.adapted import ADAPTER_FILE
from lora_bench.methods.base import Placed
from lora_bench.methods.lora import LoraMethod, lora_layers
from lora_bench.methods.tensors import read_tensors, save_trained

START_FILE = "start.safetensors"
"""A0 and B0 of each matrix, called as PEFT's file calls A and B."""


class PrincipalMethod(LoraMethod):
    """LoRA whose factors start as a part of the weights."""

    changes_base: ClassVar[bool] = True

    @abstractmethod
    def factors(self, weight_OI: Tensor, *, r: int, scale: float) -> tuple[Tensor, Tensor]:
        """B0 (out, r) and A0 (r, in) in fp32; `scale` B0 A0 is what leaves the base."""

    def apply(self, net: nn.Module, placed: Placed) -> nn.Module:
        """As LoRA, then moves the part from each base matrix into its adapter."""
        wrapped = super().apply(net, placed)
        layers = lora_layers(wrapped)
        with torch.no_grad():
            for layer in layers.values():
                b_OR, a_RI = self.factors(
                    _weight_of(layer).float(), r=layer.r["default"], scale=layer.scaling["default"]
                )
                layer.lora_A["default"].weight.copy_(a_RI)
                layer.lora_B["default"].weight.copy_(b_OR)
                _move(layer, b_OR, a_RI, sign=-1)
        self._start = _factors_of(layers)
        self.notes.append(
            f"{self.config.method.name}: a part of each placed matrix was moved from the base into its adapter"
        )
        return wrapped

    def save(self, net: nn.Module, folder: Path) -> None:
        """PEFT's folder, and what the adapter started with."""
        super().save(net, folder)
        save_trained(self._start, folder, file=START_FILE)

    def load(self, net: nn.Module, folder: Path) -> None:
        """The adapter; where factors come out otherwise on this machine, the base gives what was saved instead."""
        adapter, saved = read_tensors(folder, ADAPTER_FILE), read_tensors(folder, START_FILE)
        self.load_tensors(net, adapter, folder)
        with torch.no_grad():
            for name, layer in lora_layers(net).items():
                keys = f"{name}.lora_B.weight", f"{name}.lora_A.weight"
                if all(torch.equal(saved[key], self._start[key]) for key in keys):
                    continue
                _move(layer, *(self._start[key] for key in keys), sign=1)
                _move(layer, *(saved[key] for key in keys), sign=-1)
        self._start = saved


def _factors_of(layers: dict[str, Any]) -> dict[str, Tensor]:
    return {
        f"{name}.{part}.weight": getattr(layer, part)["default"].weight.detach().clone()
        for name, layer in layers.items()
        for part in ("lora_A", "lora_B")
    }


def _move(layer: Any, b_OR: Tensor, a_RI: Tensor, *, sign: int) -> None:
    """Adds `sign * scale * B A` to the base weight, computed in fp32."""
    weight_OI = _weight_of(layer)
    part_OI = layer.scaling["default"] * (b_OR @ a_RI).to(weight_OI.device)
    weight_OI.copy_(weight_OI.float() + sign * part_OI)


def _weight_of(layer: Any) -> Tensor:
    weight: Tensor = layer.get_base_layer().weight.detach()
    return weight.T if isinstance(layer.get_base_layer(), Conv1D) else weight
