"""LoRA adapters as factors on plain matrices: read from a run, joined where it split a fused matrix, added up, written.

A run splits GPT-2's `c_attn` to adapt q and v alone; nobody else does. The same change of the whole matrix has the A
of both, one below the other, and a B with a block for each, zero elsewhere:

    [Bq Aq]   [Bq  0]
    [  0  ] = [ 0  0] [Aq]     of rank r_q + r_v
    [Bv Av]   [ 0 Bv] [Av]

Axes: `I`/`O` in and out features, `R` rank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import TaskType
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lora_bench.artifacts.network import Adapted
from lora_bench.artifacts.trained import ADAPTER_FILE, TrainedRun
from lora_bench.config.schema import TaskKind
from lora_bench.errors import ArtifactError
from lora_bench.methods.base import is_below
from lora_bench.models.heads import head_modules
from lora_bench.models.split import SplitLinear

PREFIX = "base_model.model."
"""What PEFT writes in front of every module name."""
LAYER_A, LAYER_B = ".lora_A.weight", ".lora_B.weight"
TABLE_A, TABLE_B = ".lora_embedding_A", ".lora_embedding_B"
"""Beside a table of embeddings, whose rows PEFT counts as in features."""
PAIRS = {LAYER_A: LAYER_B, TABLE_A: TABLE_B}


@dataclass(frozen=True)
class Factors:
    """A change of one matrix, `scaling * B A`."""

    a_RI: Tensor  # noqa: N815  # its axes
    b_OR: Tensor  # noqa: N815  # its axes
    scaling: float

    @property
    def rank(self) -> int:
        """Rows of A."""
        return self.a_RI.shape[0]


@dataclass(frozen=True)
class LowRank:
    """A LoRA adapter: factors by module name, and the tensors of the task head by parameter name."""

    factors: Mapping[str, Factors]
    head: Mapping[str, Tensor]


def read_low_rank(trained: TrainedRun, adapted: Adapted) -> LowRank:
    """What a run trained, on the matrices of the plain architecture.

    Raises:
        ArtifactError: If the adapter is more than A, B and a head.
    """
    tensors = load_file(trained.weights / ADAPTER_FILE) if trained.peft_type == "LORA" else {}
    base: Any = adapted.net.get_base_model() if tensors else None  # type: ignore[operator]  # a PEFT model
    heads = head_modules(base, with_pooler=trained.config.training.head_has_pooler) if tensors else []
    ends = (*PAIRS, *PAIRS.values())
    strange = [key for key in tensors if not key.endswith(ends) and not is_below(key, heads)]
    if not tensors or strange:
        what = f"holds {strange[0]}" if strange else f"is of type {trained.peft_type or 'none of PEFT'}"
        raise ArtifactError(
            f"{trained.name}: its adapter {what}, and only plain LoRA can be taken apart into factors; use merge, or "
            f"compose without --adapter"
        )
    factors = {}
    for key, a_RI in tensors.items():
        end = next((end for end in PAIRS if key.endswith(end)), None)
        if end is not None:
            layer = key.removesuffix(end)
            tuner: Any = adapted.net.get_submodule(layer)
            scaling = float(tuner.scaling["default"])
            factors[layer.removeprefix(PREFIX)] = Factors(a_RI, tensors[f"{layer}{PAIRS[end]}"], scaling)
    head = {key.removeprefix(PREFIX): value for key, value in tensors.items() if is_below(key, heads)}
    return LowRank(join_split(factors, split_modules(adapted.net)), head)


def split_modules(net: nn.Module) -> dict[str, SplitLinear]:
    """The matrices that a run has split, by the name of the fused one in the plain architecture."""
    return {
        name.removeprefix(PREFIX): module for name, module in net.named_modules() if isinstance(module, SplitLinear)
    }


def join_split(factors: Mapping[str, Factors], splits: Mapping[str, SplitLinear]) -> dict[str, Factors]:
    """The same change on the plain matrices: factors of roles become one pair on the matrix that holds them."""
    joined = {}
    for name, own in factors.items():
        fused = name.rpartition(".")[0]
        if fused not in splits:
            joined[name] = own
        elif fused not in joined:
            split = splits[fused]
            joined[fused] = _join_roles([factors.get(f"{fused}.{role}") for role in split.roles], split)
    return joined


def divide_joined(factors: Factors, split: SplitLinear, adapted_roles: Sequence[str]) -> dict[str, Factors]:
    """The inverse of `join_split` for one matrix whose roles have one rank; B outside the blocks is lost."""
    rank = factors.rank // len(adapted_roles)
    b_of_role = dict(zip(split.roles, split.take_apart(factors.b_OR), strict=True))
    divided = {}
    for index, role in enumerate(role for role in split.roles if role in adapted_roles):
        rows = slice(index * rank, (index + 1) * rank)
        divided[role] = Factors(factors.a_RI[rows].contiguous(), b_of_role[role][:, rows].contiguous(), factors.scaling)
    return divided


def _task_type(plain: Any, kind: TaskKind) -> TaskType:
    if kind is TaskKind.classification:
        return TaskType.SEQ_CLS
    return TaskType.SEQ_2_SEQ_LM if plain.config.is_encoder_decoder else TaskType.CAUSAL_LM


def _join_roles(of_roles: Sequence[Factors | None], split: SplitLinear) -> Factors:
    present = [own for own in of_roles if own is not None]
    scaling, rank = present[0].scaling, sum(own.rank for own in present)
    blocks, start = [], 0
    for own, size in zip(of_roles, split.sizes, strict=True):
        block_OR = present[0].b_OR.new_zeros(size, rank)
        if own is not None:
            # Roles with one scaling keep their bits; another one goes into B.
            same = own.scaling == scaling
            block_OR[:, start : start + own.rank] = own.b_OR if same else own.b_OR * (own.scaling / scaling)
            start += own.rank
        blocks.append(block_OR)
    return Factors(torch.cat([own.a_RI for own in present]), split.put_together(blocks), scaling)


def add_low_rank(parts: Sequence[tuple[LowRank, float]]) -> dict[str, Factors]:
    """The weighted sum as one adapter of the summed rank: A below A, and B beside B with weight and scaling in it."""
    names = dict.fromkeys(name for adapter, _ in parts for name in adapter.factors)
    total = {}
    for name in names:
        own = [(adapter.factors[name], weight) for adapter, weight in parts if name in adapter.factors]
        b_OR = torch.cat(
            [(factors.b_OR.double() * (weight * factors.scaling)).float() for factors, weight in own], dim=1
        )
        total[name] = Factors(torch.cat([factors.a_RI for factors, _ in own]), b_OR, 1.0)
    return total


def write_low_rank(adapter: LowRank, folder: Path, *, plain: PreTrainedModel, kind: TaskKind, base: str) -> None:
    """PEFT's adapter folder for the plain architecture.

    Args:
        adapter: Factors on modules of `plain`.
        folder: To write into.
        plain: The base network; says which matrices lie the other way round.
        kind: Which head it has.
        base: Where the base is loaded from.
    """
    factors, heads = adapter.factors, head_modules(plain, with_pooler=True)
    tables = {name for name in factors if isinstance(plain.get_submodule(name), nn.Embedding)}
    alphas = {name: own.scaling * own.rank for name, own in factors.items()}
    rank = Counter(own.rank for own in factors.values()).most_common(1)[0][0]
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    PeftLoraConfig(
        base_model_name_or_path=base,
        task_type=_task_type(plain, kind),
        inference_mode=True,
        r=rank,
        lora_alpha=alpha,
        rank_pattern={name: own.rank for name, own in factors.items() if own.rank != rank},
        alpha_pattern={name: own for name, own in alphas.items() if own != alpha},
        fan_in_fan_out=all(isinstance(plain.get_submodule(name), Conv1D) for name in factors if name not in tables),
        target_modules=sorted(factors),
        modules_to_save=[name for name in heads if any(is_below(key, [name]) for key in adapter.head)] or None,
    ).save_pretrained(str(folder))
    tensors = {f"{PREFIX}{name}": value.contiguous() for name, value in adapter.head.items()}
    for name, own in factors.items():
        end = TABLE_A if name in tables else LAYER_A
        tensors |= {
            f"{PREFIX}{name}{end}": own.a_RI.contiguous(),
            f"{PREFIX}{name}{PAIRS[end]}": own.b_OR.contiguous(),
        }
    save_file(tensors, folder / ADAPTER_FILE, metadata={"format": "pt"})
