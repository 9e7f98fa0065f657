"""One process on one device, through Accelerate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn

from lora_bench.config.schema import TrainingConfig
from lora_bench.errors import ExecutionError
from lora_bench.launchers import forget_launcher
from lora_bench.training.backends.base import OwnStepBackend


class SingleBackend(OwnStepBackend):
    """The GPU if there is one, else the CPU."""

    def __init__(self) -> None:
        super().__init__()
        # Accelerate would join the group that they describe, and wait for ever for its other processes.
        forget_launcher()
        # Precision is ours (bf16 weights with fp32 masters), so Accelerate must not wrap the forward in autocast.
        self._accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no")
        if self._accelerator.distributed_type is not DistributedType.NO or self._accelerator.num_processes != 1:
            raise ExecutionError(
                f"asked for one process, but Accelerate found {self._accelerator.distributed_type} with "
                f"{self._accelerator.num_processes}; this is a fault of lora_bench"
            )

    @property
    def device(self) -> torch.device:
        """Where the network and its batches live."""
        device: torch.device = self._accelerator.device
        return device

    def prepare(self, net: nn.Module, training: TrainingConfig, lr_factors: Sequence[float]) -> nn.Module:
        """The network as it is."""
        self._make_optimizer(net, training, lr_factors)
        prepared: nn.Module = self._accelerator.prepare(net)
        return prepared
