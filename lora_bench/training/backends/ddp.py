"""Whole weights in every process, gradients averaged: DistributedDataParallel through Accelerate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn

from lora_bench.config.schema import TrainingConfig
from lora_bench.models.roles import FAMILIES, family_name
from lora_bench.training.backends.base import OwnStepBackend
from lora_bench.training.backends.group import GroupBackend, check_accelerator


class DdpBackend(GroupBackend, OwnStepBackend):
    """Every process has the same weights after each step."""

    def __init__(self) -> None:
        super().__init__()
        self._wrapping = DistributedDataParallelKwargs()
        self._accelerator = Accelerator(
            cpu=not torch.cuda.is_available(), mixed_precision="no", kwargs_handlers=[self._wrapping]
        )
        check_accelerator(
            self._accelerator.distributed_type,
            frozenset({"MULTI_CPU", "MULTI_GPU"}),
            num_processes=self._accelerator.num_processes,
            num_expected=self.num_processes,
            what="DDP",
        )

    def prepare(self, net: nn.Module, training: TrainingConfig, lr_factors: Sequence[float]) -> nn.Module:
        """The network within DistributedDataParallel."""
        self._make_optimizer(net, training, lr_factors)
        # Of a whole model that we do not know a task may leave parameters out; looking for them costs time.
        self._wrapping.find_unused_parameters = _is_unknown(net) and all(p.requires_grad for p in net.parameters())
        self._wrapped = wrapped = self._accelerator.prepare(net)
        assert isinstance(wrapped, nn.Module), "a network becomes a network"
        return wrapped

    @contextlib.contextmanager
    def micro_batch(self, *, is_last: bool) -> Iterator[None]:
        """Sums between processes are put off to the last one where gradients wait for it where they are. Those of
        narrow weights move to their masters after each backward pass, so each pass has to bring its sums."""
        puts_off = not is_last and not self._masters.has_lowered
        with self._accelerator.no_sync(self._wrapped) if puts_off else contextlib.nullcontext():
            yield


def _is_unknown(net: nn.Module) -> bool:
    config = getattr(net, "config", None)
    return config is None or family_name(config.to_dict()) not in FAMILIES
