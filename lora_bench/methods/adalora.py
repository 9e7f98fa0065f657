"""AdaLoRA (arXiv:2303.10512) through PEFT: B diag(E) A, whose rank moves during training to where it helps most.

It starts with a higher rank than `lora.r`, and from `start_part` of the steps on sets the least important triplets to
zero, by a cubic schedule, until the average is `lora.r`; the last `final_part` trains with ranks fixed. A and B are
held near orthonormal by a penalty, which no reported loss contains.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import AdaLoraConfig as PeftAdaLoraConfig
from torch import Tensor, nn

from lora_bench.config.methods import AdaLoraMethodConfig
from lora_bench.config.schema import LoraConfig, RunConfig
from lora_bench.errors import ModelError
from lora_bench.methods.adapted import ADAPTER_FILE, PREFIX, AdaptedMethod, peft_model, task_words
from lora_bench.methods.base import Placed
from lora_bench.methods.lora import lora_scaling
from lora_bench.methods.tensors import read_tensors
from lora_bench.rundir import PEFT_CONFIG_FILE, find_adapter_config

_AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")
"""Of PEFT's allocator: importance of each weight at the last step, its average, and the average of its changes."""
_PATTERN = "rank_pattern."


class AdaLoraMethod(AdaptedMethod):
    """LoRA by triplets of a singular value and two vectors; E starts at zero, so outputs start as the base's."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        assert isinstance(config.method, AdaLoraMethodConfig), "registered under its own config"
        assert config.lora is not None, "resolve keeps the lora group for this method"
        self.lora: LoraConfig = config.lora
        self.own = config.method
        self._ranks: Any = None

    def peft_config(self, placed: Placed) -> PeftAdaLoraConfig:
        """PEFT's words for ours; parts of the run become steps."""
        steps = self.config.training.max_steps
        init_r = self.own.init_rank(self.lora.r)
        return PeftAdaLoraConfig(
            init_r=init_r,
            target_r=self.lora.r,
            # PEFT divides by the rank that it started with; the scale of the convention is that of `lora.r`.
            lora_alpha=lora_scaling(self.lora) * init_r,
            lora_dropout=self.lora.dropout,
            tinit=int(self.own.start_part * steps),
            tfinal=int(self.own.final_part * steps),
            deltaT=self.own.every,
            orth_reg_weight=self.own.orthogonality,
            total_step=steps,
            target_modules=list(placed.target_modules),
            bias=self.lora.bias.value,
            **task_words(placed),
        )

    def apply(self, net: nn.Module, placed: Placed) -> nn.Module:
        """As PEFT does."""
        wrapped = super().apply(net, placed)
        self._ranks = peft_model(wrapped).base_model
        return wrapped

    def penalty(self, net: nn.Module) -> Tensor:
        """Mean distance of the Gram matrices of A and B from the identity, as PEFT adds it to a loss of its own."""
        distances = []
        for name, parameter in net.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                gram = parameter @ parameter.T if "lora_A" in name else parameter.T @ parameter
                distances.append(torch.linalg.norm(gram - torch.eye(len(gram), device=gram.device)))
        return self.own.orthogonality * torch.stack(distances).mean()

    def after_step(self, net: nn.Module, step: int) -> None:
        """Measures importance and, when it is time, drops triplets."""
        self._ranks.update_and_allocate(step)

    def training_state(self) -> dict[str, Tensor]:
        """The running importances, and which triplets are left."""
        allocator = self._ranks.rankallocator
        state = {f"{kind}.{name}": value for kind in _AVERAGES for name, value in getattr(allocator, kind).items()}
        pattern = self._config.rank_pattern or {}
        return state | {f"{_PATTERN}{name}": torch.tensor(kept) for name, kept in pattern.items()}

    def restore_training_state(self, net: nn.Module, tensors: dict[str, Tensor]) -> None:
        """The inverse."""
        allocator = self._ranks.rankallocator
        for kind in _AVERAGES:
            found = {
                key.removeprefix(f"{kind}."): value for key, value in tensors.items() if key.startswith(f"{kind}.")
            }
            setattr(allocator, kind, found)
        pattern = {key.removeprefix(_PATTERN): value.tolist() for key, value in tensors.items() if _PATTERN in key}
        self._config.rank_pattern = pattern or None

    def load(self, net: nn.Module, folder: Path) -> None:
        """The adapter; dropped triplets, which are not in the file, are zero again.

        Not cut off, as PEFT would do it: sums over other shapes are other sums in their last bits.
        """
        tensors = read_tensors(folder, ADAPTER_FILE)
        saved = _saved_pattern(folder)
        for name, is_left in saved.items():
            module = f"{PREFIX}{name.removesuffix('.lora_E')}"
            for part, axis in (("lora_A", 0), ("lora_E", 0), ("lora_B", 1)):
                key = f"{module}.{part}"
                tensors[key] = _spread(tensors[key], torch.tensor(is_left), axis)
        self.load_tensors(net, tensors, folder)
        self._config.rank_pattern = saved or None

    @property
    def _config(self) -> Any:
        return self._ranks.peft_config["default"]


def _saved_pattern(folder: Path) -> dict[str, list[bool]]:
    """Which triplets of each matrix are in the file; empty where none was dropped."""
    path = find_adapter_config(folder) or folder / PEFT_CONFIG_FILE
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise ModelError(f"{folder}: its {path.name}, which says what ranks were left, cannot be read ({err})") from err
    return settings.get("rank_pattern") or {}


def _spread(values: Tensor, is_left: Tensor, axis: int) -> Tensor:
    """The rows or columns that are left among zeros for those that are not."""
    shape = list(values.shape)
    shape[axis] = len(is_left)
    return values.new_zeros(shape).index_copy(axis, is_left.nonzero().squeeze(1), values)
