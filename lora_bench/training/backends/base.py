"""The contract of a backend: who holds which weights, who takes which items, and how processes agree.

Every process of a run carries out the same loop. What concerns all of them is decided from sums over all of them, at
the same points of each step, so that none waits for another that has left.
"""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lora_bench.config.schema import TrainingConfig
from lora_bench.measure import memory
from lora_bench.training.optimizer import build_optimizer, set_learning_rate
from lora_bench.training.precision import MasterWeights

# Accelerate asks DeepSpeed, where that is installed, which says on standard output what it found; this is the answer.
os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")

Named = dict[str, Tensor]
TRAINED, OPTIMIZER = "trained.", "optimizer."
"""Before the names of what a checkpoint holds."""


class Backend(ABC):
    """One process's part of a run. `prepare` is called once, before everything that works on weights.

    Attributes:
        rank: Number of this process, from 0; the first one alone writes.
        num_processes: How many there are.
        transport: What carries sums between them; None for one process.
        splits_weights: Whether no process has all weights, so that all take part in every forward pass.
        notes: What a reader of the result must know.
    """

    rank: int = 0
    num_processes: int = 1
    transport: str | None = None
    splits_weights: bool = False

    def __init__(self) -> None:
        self.notes: list[str] = []

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the network and its batches live."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    @abstractmethod
    def prepare(self, net: nn.Module, training: TrainingConfig, lr_factors: Sequence[float]) -> nn.Module:
        """Makes the optimiser and gives the network as the loop is to call it; the rates' factors as in the order of
        the trained parameters."""

    @contextlib.contextmanager
    def micro_batch(self, *, is_last: bool) -> Iterator[None]:
        """Around forward and backward pass of one; after the last one gradients are those of all processes."""
        yield

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Adds to the gradients; over the processes they become means, not sums."""

    @abstractmethod
    def update(self, rate: float, *, max_norm: float | None, before_clearing: Callable[[], None]) -> float:
        """Clips to a global norm, steps at this rate, calls `before_clearing`, and clears the gradients.

        Returns the norm before clipping; where it is not finite nothing has changed.
        """

    @abstractmethod
    def clear_gradients(self) -> None:
        """Frees them."""

    @abstractmethod
    def training_state(self) -> Named:
        """Trained tensors (fp32) and optimiser state, whole, as a checkpoint holds them. Every process calls it; those
        that are not the first may get nothing."""

    @abstractmethod
    def restore(self, state: Named) -> None:
        """The inverse of `training_state`; every process is given all of it."""

    @abstractmethod
    def held(self) -> tuple[list[Tensor], list[Tensor]]:
        """What this process holds beside the network: optimiser state with masters, and gradients."""

    def weights(self, net: nn.Module) -> list[Tensor]:
        """What this process holds of the network."""
        return memory.weight_tensors(net)

    @contextlib.contextmanager
    def whole_weights(self, names: Collection[str]) -> Iterator[None]:
        """Within it the network's parameters of these names are whole, for saving. Every process enters it."""
        yield

    def share(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process's part of a step's items, which come longest first: every so-many-th, so that lengths match."""
        return items[self.rank :: self.num_processes]

    def total(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum over all processes, in each of them. Every process calls it with the same shape."""
        return values

    def total_of(self, value: float) -> float:
        """`total` of a single number."""
        return float(self.total(np.array([value], dtype=np.float64))[0])

    def any(self, is_so: bool) -> bool:
        """Whether it is so in any process."""
        return self.total_of(float(is_so)) > 0

    def mark(self, prefix: str) -> str:
        """How this process's own tensors are called in a checkpoint: those of the first as if it were alone."""
        return prefix if self.is_first else f"{prefix}{self.rank}."

    def of_all(self, prefix: str, own: Named) -> Named:
        """Small tensors of bytes, of every process, by the names that `mark` says. Every process calls it."""
        return {f"{prefix}{name}": tensor for name, tensor in own.items()}

    def synchronise(self) -> None:
        """Waits for the device, so that a wall clock means something."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class OwnStepBackend(Backend):
    """A backend whose optimiser is torch's own, over fp32 masters of what it holds."""

    def _make_optimizer(self, net: nn.Module, training: TrainingConfig, lr_factors: Sequence[float]) -> None:
        named = [(name, parameter) for name, parameter in net.named_parameters() if parameter.requires_grad]
        self._names = [name for name, _ in named]
        self._masters = MasterWeights([parameter for _, parameter in named])
        self._optimizer = build_optimizer(self._masters.parameters, training, lr_factors=lr_factors)
        self._net = net

    def backward(self, loss: Tensor) -> None:
        """As the base says."""
        loss.backward()  # type: ignore[no-untyped-call]  # torch does not type it
        self._masters.collect_gradients()

    def update(self, rate: float, *, max_norm: float | None, before_clearing: Callable[[], None]) -> float:
        """As the base says."""
        norm = float(self._clip(float("inf") if max_norm is None else max_norm))
        if not np.isfinite(norm):
            return norm
        set_learning_rate(self._optimizer, rate)
        self._optimizer.step()
        before_clearing()
        self._optimizer.zero_grad(set_to_none=True)
        self._masters.publish()
        return norm

    def clear_gradients(self) -> None:
        """As the base says."""
        self._net.zero_grad(set_to_none=True)
        self._optimizer.zero_grad(set_to_none=True)

    def training_state(self) -> Named:
        """As the base says."""
        state = {}
        for name, master in self._named_masters():
            state[f"{TRAINED}{name}"] = self._whole(master)
            for key, value in self._optimizer.state[master].items():
                state[f"{OPTIMIZER}{name}.{key}"] = self._whole(value)
        return state

    @torch.no_grad()
    def restore(self, state: Named) -> None:
        """As the base says."""
        for name, master in self._named_masters():
            master.copy_(self._part(state[f"{TRAINED}{name}"], like=master))
        self._masters.publish()
        masters = dict(self._named_masters())
        for name, value in state.items():
            if name.startswith(OPTIMIZER):
                owner, key = name.removeprefix(OPTIMIZER).rsplit(".", 1)
                self._optimizer.state[masters[owner]][key] = self._part(value, like=masters[owner])

    def held(self) -> tuple[list[Tensor], list[Tensor]]:
        """As the base says."""
        weights = {id(parameter) for parameter in self._net.parameters()}
        own = [master for master in self._masters.parameters if id(master) not in weights]
        state = [value for master in self._masters.parameters for value in self._optimizer.state[master].values()]
        everything = [*self._net.parameters(), *own]
        return [*state, *own], [tensor.grad for tensor in everything if tensor.grad is not None]

    def _named_masters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return zip(self._names, self._masters.parameters, strict=True)

    def _clip(self, max_norm: float) -> Tensor:
        return nn.utils.clip_grad_norm_(self._masters.parameters, max_norm)

    def _whole(self, tensor: Tensor) -> Tensor:
        """A tensor of the optimiser, put together from all processes."""
        return tensor.detach()

    def _part(self, tensor: Tensor, *, like: Tensor) -> Tensor:
        """What this process holds of a whole tensor."""
        return tensor.to(like.device)
