"""From what a run has counted on its way to the parts of its record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lora_bench.config.processes import GroupConfig
from lora_bench.config.schema import RunConfig
from lora_bench.measure import flops
from lora_bench.measure.timing import summarise_steps
from lora_bench.models.load import TORCH_DTYPES
from lora_bench.prepared import Prepared
from lora_bench.records import GroupUse, MemoryProfile, Timing
from lora_bench.training.backends import Backend
from lora_bench.training.loop import Progress


def summarise_memory(progress: Progress, *, rss_after_load_bytes: int | None) -> MemoryProfile | None:
    """What training has found; None when it ended before the measured step."""
    found: dict[str, Any] = dict.fromkeys(("weight_bytes", "gradient_bytes", "optimizer_bytes", "activation_bytes"))
    found |= {name: value for name, value in progress.memory.items() if name in MemoryProfile.__dataclass_fields__}
    if "peak_train_allocated_bytes" in progress.memory:
        found["peak_tensor_bytes"] = progress.memory["peak_train_allocated_bytes"]
    if "peak_tensor_bytes" not in found:
        return None
    return MemoryProfile(**found, rss_after_load_bytes=rss_after_load_bytes)


def summarise_group(config: GroupConfig, backend: Backend, own: MemoryProfile | None, train_s: float) -> GroupUse:
    """Every process's memory and time, in each of them. Every process calls it."""
    names = list(MemoryProfile.__dataclass_fields__)
    values = [getattr(own, name) if own is not None else None for name in names]
    rows = np.zeros((backend.num_processes, len(names) + 1))
    rows[backend.rank] = [train_s, *(math.nan if value is None else value for value in values)]
    rows = backend.total(rows)
    is_measured = own is not None
    times = rows[:, 0].tolist()
    return GroupUse(
        name=config.name,
        count=config.count,
        nodes=config.nodes,
        transport=backend.transport or "",
        memory=[_profile(names, row) for row in rows[:, 1:]] if is_measured else [],
        memory_sum=_profile(names, rows[:, 1:].sum(axis=0)) if is_measured else None,
        train_s=times,
        train_s_max=max(times),
        train_s_sum=sum(times),
    )


def largest(profiles: Sequence[MemoryProfile]) -> MemoryProfile | None:
    """The largest of each number: what every device must have."""
    if not profiles:
        return None
    values = {name: [getattr(profile, name) for profile in profiles] for name in MemoryProfile.__dataclass_fields__}
    found: dict[str, Any] = {name: None if None in own else max(own) for name, own in values.items()}
    return MemoryProfile(**found)


def _profile(names: list[str], values: NDArray[np.float64]) -> MemoryProfile:
    found: dict[str, Any] = {
        name: None if math.isnan(value) else int(value) for name, value in zip(names, values, strict=True)
    }
    return MemoryProfile(**found)


def summarise_timing(config: RunConfig, prepared: Prepared, progress: Progress) -> Timing:
    """Wall times by phase, step times and rates. Measures the machine's own rate here and now."""
    # The step that counts live bytes runs slower; it is no step time.
    untimed = set(progress.untimed_steps)
    kept = [index for index in range(len(progress.step_s)) if index not in untimed]
    times = summarise_steps(
        [progress.step_s[index] for index in kept],
        [progress.step_tokens[index] for index in kept],
        num_warmup=config.training.warmup_timing_steps,
    )
    device = next(prepared.net.parameters()).device
    per_token = prepared.flops_per_token
    # Where memory ran out there is none left for measuring either.
    peak = flops.peak_flops_per_s(TORCH_DTYPES[config.training.dtype], device) if progress.status != "oom" else None
    achieved = per_token * times.tokens_per_s if times.tokens_per_s else None
    return Timing(
        load_s=prepared.load_s,
        data_s=prepared.data_s,
        train_s=progress.train_s,
        eval_s=progress.eval_s,
        generate_s=progress.generate_s,
        step_median_ms=times.median_ms,
        step_p10_ms=times.p10_ms,
        step_p90_ms=times.p90_ms,
        num_timed_steps=times.num_timed,
        tokens_per_s=times.tokens_per_s,
        padding_fraction=1 - sum(progress.step_tokens) / progress.padded_tokens if progress.padded_tokens else 0.0,
        flops_per_token=per_token,
        achieved_flops_per_s=achieved,
        peak_flops_per_s=peak,
        utilisation=achieved / peak if achieved and peak else None,
    )
