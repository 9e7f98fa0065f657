"""Trained tensors by name in one safetensors file, for methods that PEFT does not write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lora_bench.errors import ModelError

TRAINED_FILE = "trained.safetensors"


def save_trained(tensors: Mapping[str, Tensor], folder: Path, *, file: str = TRAINED_FILE) -> None:
    """Writes the tensors as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, folder / file)


def read_tensors(folder: Path, file: str) -> dict[str, Tensor]:
    """What a safetensors file of an adapter's folder holds.

    Raises:
        ModelError: If there is no such file, or it is damaged or something else, such as a pickle.
    """
    if not (folder / file).is_file():
        there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        pickles = [name for name in there if name.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt"))]
        found = f"it holds {', '.join(there[:5])}" if there else "there is nothing"
        advice = f"; {pickles[0]} is a pickle, which is never read: save it as safetensors first" if pickles else ""
        raise ModelError(f"{folder}: has no {file}, so it is not a folder that this method wrote; {found}{advice}")
    try:
        return load_file(folder / file)
    except (SafetensorError, ValueError) as err:
        raise ModelError(f"{folder / file}: damaged, or no safetensors file ({err}); copy or train it again") from err


@torch.no_grad()
def load_trained(tensors: Mapping[str, Tensor], folder: Path, *, file: str = TRAINED_FILE) -> None:
    """Copies what `save_trained` wrote into these tensors.

    Raises:
        ModelError: If the file cannot be read, or names or shapes differ; nothing was copied then.
    """
    found = read_tensors(folder, file)
    if set(found) != set(tensors):
        differing = sorted(set(found) ^ set(tensors))
        raise ModelError(f"{folder / file}: belongs to another model or method; {differing[:3]} are on one side only")
    check_shapes(tensors, found, folder / file)
    for name, tensor in tensors.items():
        tensor.copy_(found[name])


def check_shapes(tensors: Mapping[str, Tensor], found: Mapping[str, Tensor], file: Path) -> None:
    """Raises a ModelError if a tensor that was found has another shape than the one of its name."""
    for name in set(tensors) & set(found):
        if found[name].shape != tensors[name].shape:
            own, other = tuple(tensors[name].shape), tuple(found[name].shape)
            raise ModelError(f"{file}: {name} has shape {other}, the model's {own}; the model or its settings differ")
