"""GPUs of its own for each run of this machine."""

from __future__ import annotations

import os

from lora_bench.errors import ExecutionError

VISIBLE = "CUDA_VISIBLE_DEVICES"


def take_gpus(slot: int, count: int = 1) -> None:
    """Leaves this process so many of the GPUs that it sees; slots for which there are none left share them in turn.

    To be called before CUDA is touched, which reads the variable once. Without a GPU nothing changes.

    Raises:
        ExecutionError: If this machine has GPUs, but fewer.
    """
    names = visible_gpus()
    if names and count > len(names):
        raise ExecutionError(f"{count} processes on one machine, one GPU each, but it has {len(names)}; use fewer")
    if names:
        os.environ[VISIBLE] = ",".join(names[(slot * count + index) % len(names)] for index in range(count))


def visible_gpus() -> list[str]:
    """What `CUDA_VISIBLE_DEVICES` may be set to: the indices or UUIDs that it lists, else those of all GPUs."""
    listed = os.environ.get(VISIBLE)
    if listed is not None:
        return [name.strip() for name in listed.split(",") if name.strip() not in ("", "-1")]
    import torch

    # Asks the driver's management library, which does not initialise CUDA.
    return [str(index) for index in range(torch.cuda.device_count())]
