"""A GPU of its own for each run of this machine."""

from __future__ import annotations

import os

VISIBLE = "CUDA_VISIBLE_DEVICES"


def take_gpu(slot: int) -> None:
    """Leaves this process one of the GPUs that it sees; more slots than GPUs share them in turn.

    To be called before CUDA is touched, which reads the variable once. Without a GPU nothing changes.
    """
    names = visible_gpus()
    if names:
        os.environ[VISIBLE] = names[slot % len(names)]


def visible_gpus() -> list[str]:
    """What `CUDA_VISIBLE_DEVICES` may be set to: the indices or UUIDs that it lists, else those of all GPUs."""
    listed = os.environ.get(VISIBLE)
    if listed is not None:
        return [name.strip() for name in listed.split(",") if name.strip() not in ("", "-1")]
    import torch

    # Asks the driver's management library, which does not initialise CUDA.
    return [str(index) for index in range(torch.cuda.device_count())]
