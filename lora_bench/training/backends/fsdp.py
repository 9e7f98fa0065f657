"""Weights, gradients and state split among the processes: FSDP2, torch's own `fully_shard`.

Not through Accelerate, whose FSDP silently becomes plain DDP, or single processes, where there is no GPU (1.15).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence

from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from lora_bench.config.schema import TrainingConfig
from lora_bench.errors import ExecutionError
from lora_bench.training.backends.base import OwnStepBackend
from lora_bench.training.backends.group import GroupBackend
from lora_bench.training.precision import local


class FsdpBackend(GroupBackend, OwnStepBackend):
    """A layer's weights are put together for its pass, and split again."""

    splits_weights = True

    def prepare(self, net: nn.Module, training: TrainingConfig, lr_factors: Sequence[float]) -> nn.Module:
        """The network, each layer and the rest of it split."""
        mesh = init_device_mesh(self.device.type, (self.num_processes,))
        for layer in _layers(net):
            fully_shard(layer, mesh=mesh)
        fully_shard(net, mesh=mesh)
        plain = [name for name, parameter in net.named_parameters() if not isinstance(parameter, DTensor)]
        if plain:
            raise ExecutionError(f"asked for FSDP, but {plain[0]} was not split")
        self._make_optimizer(net, training, lr_factors)
        return net

    @contextlib.contextmanager
    def micro_batch(self, *, is_last: bool) -> Iterator[None]:
        """As for DDP: sums are put off where gradients may wait for them."""
        assert isinstance(self._net, FSDPModule), "prepared"
        self._net.set_requires_gradient_sync(is_last or self._masters.has_lowered)
        yield

    @contextlib.contextmanager
    def whole_weights(self, names: Collection[str]) -> Iterator[None]:
        """As the base says."""
        # Put in place by hand: on saving FSDP splits again what it has put together itself.
        self._split()
        wanted = {id(parameter) for name, parameter in self._net.named_parameters() if name in names}
        split = [
            (module, name, parameter)
            for module in self._net.modules()
            for name, parameter in module._parameters.items()
            if isinstance(parameter, DTensor) and id(parameter) in wanted
        ]
        for module, name, parameter in split:
            assert isinstance(parameter, DTensor), "chosen so"
            module._parameters[name] = nn.Parameter(parameter.full_tensor().detach())
        yield
        for module, name, parameter in split:
            module._parameters[name] = parameter

    def weights(self, net: nn.Module) -> list[Tensor]:
        """As the base says."""
        self._split()
        return [local(tensor) for tensor in super().weights(net)]

    def held(self) -> tuple[list[Tensor], list[Tensor]]:
        """As the base says."""
        state, gradients = super().held()
        return [local(tensor) for tensor in state], [local(tensor) for tensor in gradients]

    def _split(self) -> None:
        """After an evaluation the weights outside the layers are still whole: they wait for a backward pass."""
        for module in self._net.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def _clip(self, max_norm: float) -> Tensor:
        norm = super()._clip(max_norm)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def _whole(self, tensor: Tensor) -> Tensor:
        """Put together in every process, kept by the first."""
        return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu()

    def _part(self, tensor: Tensor, *, like: Tensor) -> Tensor:
        """As the base says; counts of steps are whole."""
        if not isinstance(like, DTensor) or tensor.shape != like.shape:
            return tensor.to(like.device)
        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)


def _layers(net: nn.Module) -> list[nn.Module]:
    """The longest list of modules: those that are gone through one after the other."""
    lists = [module for module in net.modules() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=lambda modules: len(list(modules)))) if lists else []
