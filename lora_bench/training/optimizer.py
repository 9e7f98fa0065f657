"""AdamW and the learning rate's way from step to step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from lora_bench.config.schema import Schedule, TrainingConfig

FACTOR = "lr_factor"
"""Key of an optimiser's group: its rate as a multiple of the run's."""


def build_optimizer(
    parameters: Iterable[nn.Parameter], training: TrainingConfig, *, lr_factors: Sequence[float] | None = None
) -> torch.optim.AdamW:
    """AdamW (arXiv:1711.05101) with torch's defaults for betas and epsilon; biases and norms do not decay.

    Args:
        parameters: What is trained.
        training: Rate and decay.
        lr_factors: For each parameter its rate as a multiple of the run's; None is 1 for all.
    """
    trained = list(parameters)
    factors = [1.0] * len(trained) if lr_factors is None else lr_factors
    groups = []
    for factor in dict.fromkeys(factors):
        own = [p for p, of_p in zip(trained, factors, strict=True) if of_p == factor]
        shared = {FACTOR: factor, "lr": training.lr * factor}
        # Of one dtype each, since DeepSpeed lays a group's numbers end to end.
        for dtype in dict.fromkeys(p.dtype for p in own):
            alike = [p for p in own if p.dtype == dtype]
            decayed = {"params": [p for p in alike if p.dim() >= 2], "weight_decay": training.weight_decay}
            groups.append({**decayed, **shared})
            groups.append({"params": [p for p in alike if p.dim() < 2], "weight_decay": 0.0, **shared})
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=training.lr, fused=True)


def learning_rate(step: int, training: TrainingConfig) -> float:
    """The rate of a step (counted from 0): up over the warm-up, then to 0 at the end, or constant.

    The first step has lr / warm-up steps, not 0, and the step after the last would have 0.
    """
    num_warmup = round(training.warmup_ratio * training.max_steps)
    if step < num_warmup:
        return training.lr * (step + 1) / (num_warmup + 1)
    if training.schedule is Schedule.constant:
        return training.lr
    progress = (step - num_warmup) / max(1, training.max_steps - num_warmup)
    if training.schedule is Schedule.cosine:
        return training.lr * 0.5 * (1 + math.cos(math.pi * progress))
    return training.lr * (1 - progress)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Every group gets this rate, times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[FACTOR]
