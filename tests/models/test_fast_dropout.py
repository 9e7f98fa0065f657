"""Oracle: the definition of inverted dropout, the binomial distribution and PyTorch's own layer in eval mode."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lora_bench.models.fast_dropout import LEVELS, FastDropout, draw_mask, use_fast_dropout


def fast(p, **options):
    net = nn.Sequential(nn.Dropout(p, **options))
    assert use_fast_dropout(net) == (0 if options else 1)
    return net.train()


@pytest.mark.parametrize("p", [0.1, 0.5, 0.93])
def test_share_of_zeros_is_binomial(p):
    count = 1_000_003  # Not a multiple of four: the last word is used in part.
    torch.manual_seed(0)
    mask, scale = draw_mask(torch.empty(count), p)
    zeros = int((mask == 0).sum())
    assert mask.unique().tolist() == [0.0, 1.0]
    assert abs(zeros - p * count) < 5 * math.sqrt(count * p * (1 - p))
    assert scale == pytest.approx(1 / (1 - p), rel=LEVELS**-1 / (1 - p))


def test_neighbours_and_quarters_of_a_word_are_independent():
    torch.manual_seed(0)
    mask, _ = draw_mask(torch.empty(250_000, 4), 0.1)
    bound = 5 / math.sqrt(len(mask))  # Five standard deviations of a correlation that is zero.
    assert (torch.corrcoef(mask.T) - torch.eye(4)).abs().max() < bound
    flat = mask.flatten()
    assert abs(torch.corrcoef(torch.stack([flat[:-1], flat[1:]]))[0, 1]) < bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_output_and_gradient_share_one_mask_and_scale(dtype):
    torch.manual_seed(0)
    x = torch.randn(64, 33, dtype=dtype, requires_grad=True)
    grad = torch.randn(64, 33, dtype=dtype)
    y = fast(0.25)(x)
    y.backward(grad)
    kept = y != 0
    assert 0.7 < kept.float().mean() < 0.8
    expected = torch.where(kept, x / 0.75, 0)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(x.grad, torch.where(kept, grad / 0.75, 0))


def test_bf16_scale_is_not_rounded():
    # bf16 has no 1 / 0.9: a scale kept in bf16 would give 1.1094 on average.
    torch.manual_seed(0)
    kept = fast(0.1)(torch.full((1000, 1000), 1.3, dtype=torch.bfloat16)).float()
    value = kept[kept > 0].unique()
    assert value.item() == torch.tensor(float(torch.tensor(1.3, dtype=torch.bfloat16)) / 0.9).bfloat16().float().item()


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


@pytest.mark.parametrize(("p", "expected"), [(0.0, 1.0), (1.0, 0.0), (1e-7, 1.0)])
def test_probabilities_without_a_16_bit_mask(p, expected):
    torch.testing.assert_close(fast(p)(torch.ones(50)), torch.full((50,), expected))


def test_eval_mode_and_empty_inputs():
    layer, x = fast(0.5), torch.randn(5)
    assert layer(torch.ones(0, 3)).shape == (0, 3)
    assert layer.eval()(x) is x


def test_input_that_is_not_contiguous():
    torch.manual_seed(0)
    x = torch.randn(8, 6, requires_grad=True)
    y = fast(0.5)(x.t())
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.where(y != 0, 2.0, 0.0).t())


def test_only_plain_dropout_is_changed():
    class Own(nn.Dropout):
        pass

    net = nn.Sequential(nn.Dropout(0.1), Own(0.1), nn.Dropout(0.1, inplace=True), nn.Dropout2d(0.1))
    assert use_fast_dropout(net) == 1
    assert [isinstance(module, FastDropout) for module in net] == [True, False, False, False]
