"""AdamW and the learning rate's way from step to step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from lora_bench.config.schema import Schedule, TrainingConfig


def build_optimizer(parameters: Iterable[nn.Parameter], training: TrainingConfig) -> torch.optim.AdamW:
    """AdamW (arXiv:1711.05101) with torch's defaults for betas and epsilon; biases and norms do not decay."""
    trained = list(parameters)
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
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
    """Every group gets the same rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
