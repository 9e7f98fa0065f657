"""Trained tensors by name in one safetensors file, for methods that PEFT does not write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

TRAINED_FILE = "trained.safetensors"


def save_trained(tensors: Mapping[str, Tensor], folder: Path, *, file: str = TRAINED_FILE) -> None:
    """Writes the tensors as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, folder / file)


@torch.no_grad()
def load_trained(tensors: Mapping[str, Tensor], folder: Path, *, file: str = TRAINED_FILE) -> None:
    """Copies what `save_trained` wrote into these tensors.

    Raises:
        ValueError: If names or shapes differ.
    """
    found = load_file(folder / file)
    if set(found) != set(tensors):
        differing = sorted(set(found) ^ set(tensors))
        raise ValueError(f"{folder / file}: does not fit the model: {differing[:3]} on one side only")
    for name, tensor in tensors.items():
        if found[name].shape != tensor.shape:
            raise ValueError(
                f"{folder / file}: {name} has shape {tuple(found[name].shape)}, the model's {tuple(tensor.shape)}"
            )
        tensor.copy_(found[name])
