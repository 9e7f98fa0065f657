"""One process on one device, through Accelerate."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from lora_bench.errors import ExecutionError


class SingleBackend:
    """Device placement, backward and clipping for one process: the GPU if there is one, else the CPU."""

    def __init__(self) -> None:
        # Precision is ours (bf16 weights with fp32 masters), so Accelerate must not wrap the forward in autocast.
        self._accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no")
        if self._accelerator.distributed_type is not DistributedType.NO or self._accelerator.num_processes != 1:
            raise ExecutionError(
                f"asked for one process, but Accelerate found {self._accelerator.distributed_type} with "
                f"{self._accelerator.num_processes}; unset WORLD_SIZE, RANK and ACCELERATE_* in the environment"
            )

    @property
    def device(self) -> torch.device:
        """Where the network and its batches live."""
        device: torch.device = self._accelerator.device
        return device

    def prepare(self, net: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The network and the optimiser as the loop is to use them."""
        net, optimizer = self._accelerator.prepare(net, optimizer)
        return net, optimizer

    def backward(self, loss: Tensor) -> None:
        """Adds to the gradients."""
        self._accelerator.backward(loss)

    def clip(self, parameters: Iterable[nn.Parameter], max_norm: float | None) -> Tensor:
        """Scales gradients down to a global norm; returns the norm before. None only measures."""
        norm = self._accelerator.clip_grad_norm_(list(parameters), float("inf") if max_norm is None else max_norm)
        assert isinstance(norm, Tensor), "one process, no sharding"
        return norm

    def synchronise(self) -> None:
        """Waits for the device, so that a wall clock means something."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
