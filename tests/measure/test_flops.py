"""Oracle: the counts of "LoRA Without Regret": 6 N for full fine-tuning, 4 N + 6 N_adapter for LoRA."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from lora_bench.errors import MeasurementError
from lora_bench.measure import flops


def test_full_fine_tuning_is_six_n():
    assert flops.flops_per_token(1000, 1000) == 6000


def test_lora_is_four_n_plus_six_adapters():
    assert flops.flops_per_token(1000 + 16, 16) == 4 * 1000 + 6 * 16


def test_look_ups_are_no_products_but_a_tied_unembedding_is():
    net = nn.Sequential(nn.Embedding(100, 8), nn.Linear(8, 4))
    assert flops.matrix_parameters(net) == (32, 32)
    tied = nn.Sequential(nn.Embedding(100, 8), nn.Linear(8, 100, bias=False))
    tied[1].weight = tied[0].weight
    assert flops.matrix_parameters(tied) == (800, 800)


def test_the_table_of_an_adapter_of_embeddings_is_a_look_up():
    net = get_peft_model(nn.Sequential(nn.Embedding(100, 8), nn.Linear(8, 4)), LoraConfig(r=2, target_modules=["0"]))
    assert flops.matrix_parameters(net) == (32 + 2 * 8, 2 * 8)


def test_nothing_to_multiply_is_refused():
    with pytest.raises(MeasurementError, match="not positive"):
        flops.flops_per_token(0, 0)


def test_measured_rate_is_plausible_and_leaves_the_generator_alone():
    state = torch.get_rng_state()
    rate = flops.peak_flops_per_s(torch.float32, torch.device("cpu"), size=256, repeats=2)
    assert 1e8 < rate < 1e14
    assert torch.equal(state, torch.get_rng_state())
