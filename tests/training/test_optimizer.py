"""Oracle: transformers' own schedules, and AdamW's decay written out."""

from __future__ import annotations

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from lora_bench.config.schema import Schedule, TrainingConfig
from lora_bench.training.optimizer import build_optimizer, learning_rate


@pytest.mark.parametrize(
    ("schedule", "peer"),
    [(Schedule.linear, get_linear_schedule_with_warmup), (Schedule.cosine, get_cosine_schedule_with_warmup)],
)
def test_decay_is_that_of_transformers(schedule, peer):
    training = TrainingConfig(lr=0.1, max_steps=50, warmup_ratio=0.1, schedule=schedule)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = peer(optimizer, 5, 50)
    for step in range(50):
        if step >= 5:
            assert learning_rate(step, training) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


def test_warm_up_rises_to_the_peak_and_never_starts_at_zero():
    training = TrainingConfig(lr=1.0, max_steps=100, warmup_ratio=0.04, schedule=Schedule.constant)
    assert [learning_rate(step, training) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_no_warm_up_starts_at_the_peak():
    assert learning_rate(0, TrainingConfig(lr=0.5, max_steps=10, warmup_ratio=0.0)) == 0.5


def test_only_matrices_decay():
    weight, bias = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
    optimizer = build_optimizer([weight, bias], TrainingConfig(lr=0.1, weight_decay=0.5))
    weight.grad, bias.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    assert weight.detach().unique().tolist() == pytest.approx([1 - 0.1 * 0.5])
    assert bias.detach().unique().tolist() == [1.0]
