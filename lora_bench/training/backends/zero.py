"""DeepSpeed's ZeRO, stages 1 to 3, through Accelerate: the only module that imports DeepSpeed.

The optimiser stays torch's AdamW, over the fp32 partitions that DeepSpeed makes of the trained parameters; these are
its masters, so none of ours are needed. Checkpoints are written by the loop, whole and in safetensors.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lora_bench.config.processes import ZeroConfig
from lora_bench.config.schema import TrainingConfig
from lora_bench.models.quiet import quieten_deepspeed
from lora_bench.training.backends.base import OPTIMIZER, TRAINED, Named
from lora_bench.training.backends.group import GroupBackend, check_accelerator
from lora_bench.training.optimizer import build_optimizer, set_learning_rate

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state beside its count of steps."""
LARGEST_BUCKET = 50_000_000
"""Numbers that go between processes at once, even. DeepSpeed's own 500 million take 2 GB, however small an adapter."""
SMALL_PARAMETER = 10_000
"""Weights of fewer numbers, norms and biases mostly, stay whole in stage 3."""
OFFLOADED = {"device": "cpu", "pin_memory": False}


class ZeroBackend(GroupBackend):
    """The optimiser's state, the gradients (2) and the weights (3) are split among the processes."""

    def __init__(self, config: ZeroConfig) -> None:
        super().__init__()
        self._config = config
        self.splits_weights = config.splits_weights

    def prepare(self, net: nn.Module, training: TrainingConfig, lr_factors: Sequence[float]) -> nn.Module:
        """The network within DeepSpeed's engine."""
        self._trained = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
        if self.splits_weights:
            self._make_alike()
        optimizer = build_optimizer(self._trained.values(), training, lr_factors=lr_factors)
        accelerator = self._accelerate(training)
        self._engine, _ = accelerator.prepare(net, optimizer)
        self._optimizer = optimizer
        self._net = net
        engine: nn.Module = self._engine
        return engine

    def _make_alike(self) -> None:
        """Stage 3 lays all trained weights end to end, so they must have one dtype."""
        if len({parameter.dtype for parameter in self._trained.values()}) > 1:
            for parameter in self._trained.values():
                parameter.data = parameter.data.to(torch.bfloat16)
            self.notes.append(
                "ZeRO-3 wants one dtype: adapters are computed with and saved in bf16; their masters are fp32"
            )

    def _accelerate(self, training: TrainingConfig) -> Any:
        quieten_deepspeed()
        import deepspeed
        from accelerate import Accelerator
        from accelerate.utils import DeepSpeedPlugin, InitProcessGroupKwargs

        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        # It calls functions of torch 2.13 by their old names.
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
        # An extension for sums over shared memory, which is compiled on first use (a minute) and not needed.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        accelerator = Accelerator(
            deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=self._settings(training)),
            # Without it Accelerate finds no transport on a CPU, and takes each process for the only one.
            kwargs_handlers=[InitProcessGroupKwargs(backend=self.transport)],
        )
        check_accelerator(
            accelerator.distributed_type,
            frozenset({"DEEPSPEED"}),
            num_processes=accelerator.num_processes,
            num_expected=self.num_processes,
            what=f"ZeRO-{self._config.stage}",
        )
        return accelerator

    def _settings(self, training: TrainingConfig) -> dict[str, Any]:
        """DeepSpeed's own configuration. Batches are ours: sizes only have to be consistent."""
        num_trained = sum(parameter.numel() for parameter in self._trained.values())
        bucket = min(num_trained + num_trained % 2, LARGEST_BUCKET)
        zero: dict[str, Any] = {
            "stage": self._config.stage,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
            "stage3_prefetch_bucket_size": bucket,
            "stage3_param_persistence_threshold": SMALL_PARAMETER,
        }
        if self._config.offloads:
            zero |= {"offload_optimizer": OFFLOADED, "offload_param": OFFLOADED}
        return {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "train_batch_size": self.num_processes,
            "gradient_clipping": training.max_grad_norm or 0.0,
            "zero_optimization": zero,
            # Its own AdamW would be compiled on first use; torch's is as good.
            "zero_force_ds_cpu_optimizer": False,
            "zero_allow_untested_optimizer": True,
        }

    @contextlib.contextmanager
    def micro_batch(self, *, is_last: bool) -> Iterator[None]:
        """As the base says."""
        self._engine.set_gradient_accumulation_boundary(is_last)
        yield

    def backward(self, loss: Tensor) -> None:
        """As the base says."""
        self._engine.backward(loss)

    def update(self, rate: float, *, max_norm: float | None, before_clearing: Callable[[], None]) -> float:
        """As the base says, but DeepSpeed tells the norm after the step: one that is not finite ends the run with
        weights that are lost."""
        set_learning_rate(self._optimizer, rate)
        self._engine.step()
        before_clearing()
        return float(self._engine.get_global_grad_norm())

    def clear_gradients(self) -> None:
        """As the base says."""
        self._engine.zero_grad()

    def training_state(self) -> Named:
        """As the base says."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        self._link_state()
        state: Named = {}
        # Counted alike in all partitions.
        steps = next(iter(self._optimizer.state.values()))["step"].detach().cpu()
        for name, parameter in self._trained.items():
            state[f"{TRAINED}{name}"] = safe_get_full_fp32_param(parameter).cpu()
            for key in MOMENTS:
                state[f"{OPTIMIZER}{name}.{key}"] = safe_get_full_optimizer_state(parameter, key).cpu()
            state[f"{OPTIMIZER}{name}.step"] = steps.clone()
        return state if self.is_first else {}

    @torch.no_grad()
    def restore(self, state: Named) -> None:
        """As the base says."""
        partitions = self._partitions()
        steps = next(value for name, value in state.items() if name.endswith(".step"))
        for flat in partitions:
            moments = {key: torch.zeros_like(flat) for key in MOMENTS}
            self._optimizer.state[flat] = {"step": steps.clone(), **moments}
        self._link_state()
        for name, parameter in self._trained.items():
            moments = {key: state[f"{OPTIMIZER}{name}.{key}"] for key in MOMENTS}
            put = self._put_part if self.splits_weights else self._put_whole
            put(parameter, state[f"{TRAINED}{name}"].to(self.device), moments)

    def _link_state(self) -> None:
        """Ties each parameter to its part of the partitions' state. DeepSpeed 0.19 does so once, after the step of the
        first group, when the other groups have none yet."""
        if not self.splits_weights:
            self._engine.optimizer._hp_optimizer_states_linked = False
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    def _put_whole(self, parameter: nn.Parameter, value: Tensor, moments: Named) -> None:
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        parameter.copy_(value)
        safe_set_full_fp32_param(parameter, value)
        for key, moment in moments.items():
            safe_set_full_optimizer_state(parameter, moment.to(value.device), key)

    def _put_part(self, parameter: nn.Parameter, value: Tensor, moments: Named) -> None:
        from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

        def part(whole: Tensor) -> Tensor:
            size = parameter.ds_tensor.numel()  # type: ignore[attr-defined]  # DeepSpeed's
            padded = nn.functional.pad(whole.flatten(), (0, size * self.num_processes - whole.numel()))
            return padded[size * self.rank : size * (self.rank + 1)]

        parameter.ds_tensor.copy_(part(value))  # type: ignore[attr-defined]  # DeepSpeed's
        safe_set_local_fp32_param(parameter, part(value))
        for key, moment in moments.items():
            safe_set_local_optimizer_state(parameter, part(moment.to(value.device)), key)

    def held(self) -> tuple[list[Tensor], list[Tensor]]:
        """As the base says."""
        state = [value for own in self._optimizer.state.values() for value in own.values()]
        averaged = getattr(self._engine.optimizer, "averaged_gradients", {})
        parts = [grad for grads in averaged.values() if grads is not None for grad in grads if grad is not None]
        own = [parameter.grad for parameter in self._trained.values() if parameter.grad is not None]
        return [*state, *self._partitions()], [*parts, *own]

    def weights(self, net: nn.Module) -> list[Tensor]:
        """As the base says."""
        return [*(getattr(parameter, "ds_tensor", parameter) for parameter in net.parameters()), *net.buffers()]

    @contextlib.contextmanager
    def whole_weights(self, names: Collection[str]) -> Iterator[None]:
        """As the base says."""
        import deepspeed

        wanted = [parameter for name, parameter in self._net.named_parameters() if name in names]
        with deepspeed.zero.GatheredParameters(wanted, enabled=self.splits_weights):
            yield

    def _partitions(self) -> list[Tensor]:
        """This process's masters, laid end to end."""
        if self.splits_weights:
            return list(self._engine.optimizer.fp32_partitioned_groups_flat)
        return [group["params"][0] for group in self._optimizer.param_groups]
