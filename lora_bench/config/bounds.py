"""The smallest and largest value of every integer key: what is beyond them is a slip of the finger, and is refused.

A larger value would overflow in a library or fill the memory long after the run began. Stricter bounds, those that
need a sentence of their own, stand with the fields in `faults()`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from lora_bench.config.schema import RunConfig
from lora_bench.errors import Fault

SEED = (0, 2**32 - 1)
"""What NumPy, Optuna and torch all take for a seed."""
_ITEMS, _STEPS, _TOKENS, _RANK, _PARTS = (1, 10**9), (1, 10**9), (4, 10**7), (1, 2**17), (1, 10**5)
_OR_NONE = (0, 10**9)

BOUNDS: Mapping[str, tuple[int, int]] = {
    "seed": SEED,
    "again": (2, 10**6),
    "task.num_train": _ITEMS,
    "task.num_validation": _ITEMS,
    "task.num_eval": _ITEMS,
    "task.num_generate": _ITEMS,
    "task.max_length": _TOKENS,
    "task.max_new_tokens": (0, 10**5),
    "task.num_digits": (1, 9),
    "task.split_seed": SEED,
    "method.num_layers": (1, 10**4),
    "method.num_batches": (1, 10**6),
    "method.num_iterations": (1, 1000),
    "method.every": _STEPS,
    "method.r": _RANK,
    "method.bottleneck": _RANK,
    "method.num_dropped": (0, 10**4),
    "method.num_tokens": (1, 10**5),
    **{f"placement.rank.{role}": _RANK for role in ("q", "k", "v", "o", "up", "gate", "down", "embed", "unembed")},
    "placement.budget": (1, 10**12),
    "lora.r": _RANK,
    "training.max_steps": _STEPS,
    "training.batch_size": (1, 10**6),
    "training.micro_batch_size": (1, 10**6),
    "training.eval_every": _OR_NONE,
    "training.log_every": _STEPS,
    "training.checkpoint_every": _OR_NONE,
    "training.eval_batch_size": (1, 10**6),
    "training.warmup_timing_steps": _OR_NONE,
    "processes.count": _PARTS,
    "processes.nodes": _PARTS,
    "processes.max_restarts": (0, 10**4),
    "processes.timeout_s": (1, 30 * 24 * 3600),
    "executor.threads_per_run": (1, 4096),
    "executor.max_retries": (0, 10**4),
    "executor.cpus_per_task": (1, 4096),
    "executor.gpus_per_node": (0, 1024),
    "executor.timeout_min": (1, 365 * 24 * 60),
    "executor.signal_delay_s": (1, 24 * 3600),
    "executor.trials_per_job": (1, 10**5),
    "study.n_jobs": (1, 10**4),
    "study.n_trials": (1, 10**6),
    "study.seed": SEED,
    "study.pruner_min_steps": _STEPS,
    "study.pruner_factor": (2, 1000),
    "study.pruner_patience": (1, 10**6),
    "study.pruner_startup_trials": (1, 10**6),
    "study.seeds": SEED,
}
"""Key -> smallest and largest value; of a list, those of each entry."""


def bound_faults(config: RunConfig) -> Iterator[Fault]:
    """What is too small or too large among the integers of a configuration."""
    for key, value in _numbers(config, ""):
        low, high = BOUNDS[key]
        if not low <= value <= high:
            yield Fault(key, f"{value} is not in {low} to {high}")


def _numbers(group: Any, prefix: str) -> Iterator[tuple[str, int]]:
    """Every integer with its dotted key."""
    for entry in dataclasses.fields(group):
        value, key = getattr(group, entry.name), f"{prefix}{entry.name}"
        if dataclasses.is_dataclass(value):
            yield from _numbers(value, f"{key}.")
            continue
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int) and not isinstance(number, bool) and key in BOUNDS:
                yield key, number
