"""Full fine-tuning: every weight is trained; the baseline of everything else."""

from __future__ import annotations

from pathlib import Path

from torch import nn
from transformers.utils.logging import disable_progress_bar

from lora_bench.errors import ModelError
from lora_bench.methods.base import Method, Placed
from lora_bench.methods.tensors import read_tensors

WEIGHTS_FILE = "model.safetensors"


class FullMethod(Method):
    """All weights are trained; what is saved is the whole model."""

    def apply(self, net: nn.Module, placed: Placed) -> nn.Module:
        """Everything requires a gradient; nothing is added."""
        net.requires_grad_(True)
        return net

    def save(self, net: nn.Module, folder: Path) -> None:
        """The model folder that `from_pretrained` reads."""
        disable_progress_bar()
        # By the names of the network, which `load` reads: published folders keep experts one by one.
        net.save_pretrained(folder, safe_serialization=True, save_original_format=False)  # type: ignore[operator]

    def load(self, net: nn.Module, folder: Path) -> None:
        """All weights, by name; tied ones are stored once."""
        missing, unexpected = net.load_state_dict(read_tensors(folder, WEIGHTS_FILE), strict=False)
        tied = set(getattr(net, "all_tied_weights_keys", None) or ())
        if unexpected or set(missing) - tied:
            raise ModelError(f"{folder}: does not fit the model: missing {missing[:3]}, unexpected {unexpected[:3]}")

    def merge(self, net: nn.Module) -> nn.Module | None:
        """Nothing to merge."""
        return net
