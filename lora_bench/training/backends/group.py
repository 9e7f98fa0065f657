"""Joining the processes of a run, and the sums between them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch._C._distributed_c10d import FileStore

from lora_bench.config.processes import GroupConfig
from lora_bench.errors import ExecutionError
from lora_bench.training.backends.base import Backend, Named

LOST_WORDS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Timed out", "TCPStore")
"""What an error says that comes from another process's end, not from this one."""


def join_group(config: GroupConfig, *, meeting_file: Path | None, environment: Mapping[str, str] = os.environ) -> None:
    """Joins the process group that torch elastic has described in the environment.

    Args:
        config: How many processes are expected, and how long they wait for each other.
        meeting_file: File, new for each start, over which processes of one machine find each other, so that nothing
            listens on a network; None takes the address in the environment.
        environment: Where `RANK`, `WORLD_SIZE` and `LOCAL_RANK` are.

    Raises:
        ExecutionError: If another number of processes was started than was asked for.
    """
    started = int(environment["WORLD_SIZE"])
    if started != config.count:
        raise ExecutionError(f"asked for {config.count} processes, but {started} were started")
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(environment["LOCAL_RANK"]))
    store = None if meeting_file is None else FileStore(str(meeting_file), started)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        rank=int(environment["RANK"]),
        world_size=started,
        timeout=timedelta(seconds=config.timeout_s),
        store=store,
        init_method="env://" if store is None else None,
    )


def leave_group() -> None:
    """Ends what `join_group` began."""
    if dist.is_initialized():
        dist.destroy_process_group()


def is_from_elsewhere(err: BaseException) -> bool:
    """Whether an exception says that another process of the group is gone or does not answer."""
    if isinstance(err, dist.DistError):
        return True
    return isinstance(err, RuntimeError) and any(words.lower() in str(err).lower() for words in LOST_WORDS)


class GroupBackend(Backend):
    """What the backends of several processes have in common."""

    def __init__(self) -> None:
        """The group has been joined.

        Raises:
            ExecutionError: If it has not.
        """
        super().__init__()
        if not dist.is_initialized():
            raise ExecutionError("no process group; `processes=` runs are started through torch elastic by run.py")
        self.rank, self.num_processes = dist.get_rank(), dist.get_world_size()
        self.transport = dist.get_backend()

    @property
    def device(self) -> torch.device:
        """This process's GPU, or the CPU."""
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")

    def total(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """As the base says."""
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(summed)
        return summed.cpu().numpy()

    def of_all(self, prefix: str, own: Named) -> Named:
        """As the base says."""
        named = {}
        for name, tensor in own.items():
            rows = np.zeros((self.num_processes, tensor.numel()))
            rows[self.rank] = tensor.numpy()
            for rank, row in enumerate(self.total(rows)):
                named[f"{prefix}{f'{rank}.' if rank else ''}{name}"] = torch.from_numpy(row).to(tensor.dtype)
        return named


def check_accelerator(
    found: object, expected: frozenset[str], *, num_processes: int, num_expected: int, what: str
) -> None:
    """Raises an ExecutionError if Accelerate, as it silently may, has set up something else than was asked for."""
    name = getattr(found, "value", str(found))
    if name not in expected or num_processes != num_expected:
        raise ExecutionError(
            f"asked for {what} with {num_expected} processes, but Accelerate found {name} with {num_processes}; "
            "unset ACCELERATE_* in the environment"
        )
