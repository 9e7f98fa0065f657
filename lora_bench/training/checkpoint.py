"""Checkpoints that a killed run resumes from, bit for bit, without pickle.

A checkpoint is a folder `step-00000100/` with the trained tensors and the optimiser's state (`state.safetensors`),
scalars (`state.json`) and `manifest.json` with the SHA-256 of both. It gets its name only when it is whole; the
newest two are kept, so that a damaged one can be passed over.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lora_bench import rundir
from lora_bench.errors import CheckpointError
from lora_bench.manifest import find_change, write_manifest

TENSORS_FILE = "state.safetensors"
SCALARS_FILE = "state.json"
NUM_KEPT = 2
LAYOUT = 2
"""Of what both files hold. A change that older checkpoints or older versions would trip over has another number."""


@dataclass
class TrainingState:
    """Everything that a resume needs beside the configuration."""

    step: int
    """Optimiser steps that are done."""
    tensors: dict[str, Tensor]
    """Trained masters, optimiser state and generator state, by name."""
    scalars: dict[str, Any] = field(default_factory=dict)
    """What was measured up to here; JSON data."""


def folder_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return folder / f"step-{step:08d}"


def save_checkpoint(folder: Path, state: TrainingState, *, config_digest: str, data_digest: str = "") -> Path:
    """Writes a checkpoint and removes those that are older than the newest two; returns its folder."""
    path = folder_of(folder, state.step)
    if path.exists():
        # Written by an attempt that was killed after it; the resume came from an older one that was whole.
        shutil.rmtree(path)
    with rundir.filled_folder(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in state.tensors.items()}, partial / TENSORS_FILE)
        digests = {"config_digest": config_digest, "data_digest": data_digest}
        scalars = {"layout": LAYOUT, "step": state.step, **digests, "scalars": state.scalars}
        (partial / SCALARS_FILE).write_text(json.dumps(scalars), encoding="utf-8")
        write_manifest(partial)
    for old in _folders(folder)[:-NUM_KEPT]:
        shutil.rmtree(old)
    return path


def load_newest(folder: Path, *, config_digest: str, data_digest: str = "") -> tuple[TrainingState | None, list[str]]:
    """The newest checkpoint that can be read, and a note for each one that was passed over: damaged, or of a version of
    lora_bench that wrote another layout.

    Raises:
        CheckpointError: If a checkpoint belongs to another configuration, or was trained on other data.
    """
    notes: list[str] = []
    for path in reversed(_folders(folder)):
        try:
            state = _load(path, config_digest, data_digest)
        except (OSError, ValueError) as err:
            notes.append(f"checkpoint {path.name} cannot be read ({err}) and was passed over")
            continue
        return state, notes
    return None, notes


def _load(path: Path, config_digest: str, data_digest: str) -> TrainingState:
    change = find_change(path)
    if change is not None:
        raise ValueError(change)
    scalars = json.loads((path / SCALARS_FILE).read_text(encoding="utf-8"))
    if scalars["config_digest"] != config_digest:
        raise CheckpointError(
            f"{path}: belongs to configuration {scalars['config_digest'][:12]}, not {config_digest[:12]}; "
            "move the run directory away or choose another paths.root"
        )
    # Checkpoints of earlier versions do not name their data.
    earlier_data = scalars.get("data_digest") or data_digest
    if data_digest and earlier_data != data_digest:
        raise CheckpointError(
            f"{path}: was trained on data {earlier_data[:12]}, and the task now gives {data_digest[:12]}: other texts, "
            "another order or other classes; bring the data back, or move the run directory away to train anew"
        )
    layout = scalars.get("layout", 1)
    if layout != LAYOUT:
        raise ValueError(f"it was written by another version of lora_bench, in layout {layout} instead of {LAYOUT}")
    return TrainingState(scalars["step"], load_file(path / TENSORS_FILE), scalars["scalars"])


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.glob("step-*") if rundir.TEMPORARY_MARK not in path.name)


def generator_tensors() -> dict[str, Tensor]:
    """The state of torch's global generators in this process."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_generators(tensors: dict[str, Tensor]) -> None:
    """The inverse of `generator_tensors`; a device that is gone is passed over."""
    if "cpu" in tensors:
        torch.set_rng_state(tensors["cpu"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])
