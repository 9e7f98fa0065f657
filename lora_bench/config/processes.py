"""How many processes train a run, and what of the weights each of them holds: the group `processes`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from lora_bench.errors import Fault

HOW_ONLY = ("nodes", "max_restarts", "timeout_s", "resume_from")
"""Keys that say how the processes are kept going, not what is trained; the digest leaves them out."""


@dataclass(kw_only=True)
class ProcessesConfig:
    """One process: the loop itself, without a group."""

    splits_weights: ClassVar[bool] = False
    """Whether no process holds all weights."""
    splits_state: ClassVar[bool] = False
    """Whether the optimiser's state, and so its gradients, are split among the processes."""

    name: str = MISSING


@dataclass(kw_only=True)
class SingleProcessConfig(ProcessesConfig):
    """One process on one device."""

    name: str = "single"


@dataclass(kw_only=True)
class GroupConfig(ProcessesConfig):
    """Processes that share the items of each step, started by torch elastic."""

    count: int = 2
    """Processes in all, over every node; one GPU each, where there are GPUs. Must divide `training.batch_size`."""
    nodes: int = 1
    """Machines that they are spread over evenly; more than one needs `executor=slurm`."""
    max_restarts: int = 2
    """Times that the group is started again, from its last checkpoint, after a process died or hung."""
    timeout_s: int = 600
    """Seconds that processes wait for one of them before the group is taken for hung; longer than an evaluation."""
    resume_from: str | None = None
    """Directory of a run that differs in `processes` alone: its newest checkpoint is gone on from."""

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these fields alone."""
        for key, meaning in (
            ("count", "processes in all"),
            ("nodes", "machines"),
            ("timeout_s", "seconds of patience"),
        ):
            if getattr(self, key) < 1:
                yield Fault(f"processes.{key}", f"{getattr(self, key)} is below 1; it is the number of {meaning}")
        if self.max_restarts < 0:
            yield Fault("processes.max_restarts", f"{self.max_restarts} is below 0; 0 starts no group again")
        if self.nodes >= 1 and self.count % self.nodes:
            up = self.nodes * -(-self.count // self.nodes)
            yield Fault("processes.count", f"{self.count} cannot be spread evenly over {self.nodes} nodes; use {up}")


@dataclass(kw_only=True)
class DdpConfig(GroupConfig):
    """Every process holds all weights and state; gradients are averaged (DistributedDataParallel)."""

    name: str = "ddp"


@dataclass(kw_only=True)
class FsdpConfig(GroupConfig):
    """Weights, gradients and state are split (FSDP2, `fully_shard`)."""

    splits_weights: ClassVar[bool] = True
    splits_state: ClassVar[bool] = True

    name: str = "fsdp"


@dataclass(kw_only=True)
class ZeroConfig(GroupConfig):
    """DeepSpeed's ZeRO (arXiv:1910.02054)."""

    splits_state: ClassVar[bool] = True
    stage: ClassVar[int]
    """1 splits the optimiser's state, 2 the gradients too, 3 the weights too."""
    offloads: ClassVar[bool] = False
    """Whether state and weights are kept in the memory of the host."""


@dataclass(kw_only=True)
class Zero1Config(ZeroConfig):
    """State is split."""

    stage: ClassVar[int] = 1

    name: str = "zero1"


@dataclass(kw_only=True)
class Zero2Config(ZeroConfig):
    """State and gradients are split."""

    stage: ClassVar[int] = 2

    name: str = "zero2"


@dataclass(kw_only=True)
class Zero3Config(ZeroConfig):
    """State, gradients and weights are split."""

    splits_weights: ClassVar[bool] = True
    stage: ClassVar[int] = 3

    name: str = "zero3"


@dataclass(kw_only=True)
class Zero3OffloadConfig(Zero3Config):
    """The same with state and weights in the memory of the host."""

    offloads: ClassVar[bool] = True

    name: str = "zero3_offload"


def num_nodes(processes: ProcessesConfig | None) -> int:
    """Machines that a run's processes are spread over."""
    return processes.nodes if isinstance(processes, GroupConfig) else 1
