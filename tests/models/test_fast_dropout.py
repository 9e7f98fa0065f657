"""Oracle: the definition of inverted dropout, the binomial distribution and PyTorch's own layer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lora_bench.models import fast_dropout
from lora_bench.models.fast_dropout import FastDropout, draw_dropped, use_fast_dropout

COUNT = 1_000_003


def fast(p, **options):
    net = nn.Sequential(nn.Dropout(p, **options))
    assert use_fast_dropout(net) == 1
    return net.train()


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.93])
def test_positions_are_drawn_as_independent_decisions_would_be(p):
    torch.manual_seed(0)
    dropped = draw_dropped(COUNT, p)
    assert dropped[0] >= 0
    assert dropped[-1] < COUNT
    assert (dropped.diff() > 0).all()
    assert abs(len(dropped) - p * COUNT) < 5 * math.sqrt(COUNT * p * (1 - p))
    mask = torch.zeros(COUNT).index_fill_(0, dropped, 1.0)
    quarters = torch.stack([part.mean() for part in mask.chunk(4)])
    assert (quarters - p).abs().max() < 5 * math.sqrt(4 * p * (1 - p) / COUNT)
    for lag in (1, 2, 7):
        correlation = torch.corrcoef(torch.stack([mask[:-lag], mask[lag:]]))[0, 1]
        assert abs(correlation) < 5 / math.sqrt(COUNT)


def test_lengths_of_runs_are_geometric():
    torch.manual_seed(0)
    p = 0.2
    runs = draw_dropped(COUNT, p).diff() - 1
    found = torch.bincount(runs, minlength=10)[:10] / len(runs)
    expected = p * (1 - p) ** torch.arange(10)
    assert ((found - expected).abs() < 5 * (expected / len(runs)).sqrt()).all()


def test_first_and_last_positions_are_dropped_as_often_as_others():
    torch.manual_seed(0)
    hits = torch.zeros(5)
    for _ in range(20_000):
        hits[draw_dropped(5, 0.3)] += 1
    assert (hits / 20_000 - 0.3).abs().max() < 5 * math.sqrt(0.21 / 20_000)


def test_draws_again_when_the_first_round_ends_too_early(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(fast_dropout.math, "sqrt", lambda value: -value / 6 * 0.9)  # A tenth of what is needed.
    dropped = draw_dropped(100_000, 0.1)
    assert (dropped.diff() > 0).all()
    assert abs(len(dropped) - 10_000) < 5 * 95  # The standard deviation is 94.9.


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_output_and_gradient_share_one_mask_and_scale(dtype):
    torch.manual_seed(0)
    x = torch.randn(64, 33, dtype=dtype, requires_grad=True)
    grad = torch.randn(64, 33, dtype=dtype)
    y = fast(0.25)(x)
    y.backward(grad)
    kept = y != 0
    assert 0.7 < kept.float().mean() < 0.8
    torch.testing.assert_close(y, torch.where(kept, x / 0.75, 0))
    torch.testing.assert_close(x.grad, torch.where(kept, grad / 0.75, 0))


def test_bf16_scale_is_not_rounded():
    # bf16 has no 1 / 0.9: PyTorch's mask holds 1.1094 for it.
    torch.manual_seed(0)
    x = torch.full((100, 100), 1.3, dtype=torch.bfloat16)
    assert fast(0.1)(x).max() == (x[0, 0].double() / 0.9).bfloat16()


def test_follows_the_global_generator():
    layer, x = fast(0.5), torch.ones(100)
    torch.manual_seed(4)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    torch.manual_seed(4)
    assert torch.equal(layer(x), first)
    state = torch.get_rng_state()
    third = layer(x)
    torch.set_rng_state(state)
    assert torch.equal(layer(x), third)


@pytest.mark.parametrize(("p", "expected"), [(0.0, 1.0), (1.0, 0.0)])
def test_certain_probabilities(p, expected):
    assert (fast(p)(torch.ones(50)) == expected).all()


def test_eval_mode_and_empty_inputs():
    layer, x = fast(0.5), torch.randn(5)
    assert layer(torch.ones(0, 3)).shape == (0, 3)
    assert layer.eval()(x) is x


def test_input_that_is_not_contiguous_is_left_as_it_was():
    torch.manual_seed(0)
    x = torch.randn(8, 6, requires_grad=True)
    before = x.detach().clone()
    y = fast(0.5)(x.t())
    y.sum().backward()
    assert torch.equal(x, before)
    torch.testing.assert_close(x.grad, torch.where(y != 0, 2.0, 0.0).t())


def test_only_plain_dropout_is_changed():
    class Own(nn.Dropout):
        pass

    net = nn.Sequential(nn.Dropout(0.1), Own(0.1), nn.Dropout(0.1, inplace=True), nn.Dropout2d(0.1))
    assert use_fast_dropout(net) == 1
    assert [isinstance(module, FastDropout) for module in net] == [True, False, False, False]
