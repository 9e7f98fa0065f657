"""Oracles: torch's own counter over a forward and a backward pass, and the counts of "LoRA Without Regret"."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.flop_oracle import NUM_TOKENS, counted, measured
from support.method_cases import CASES, build_case
from torch import nn

from lora_bench.errors import MeasurementError
from lora_bench.measure import flops
from lora_bench.measure.flops import MatrixNumbers

PER_STEP = ("dora",)
"""What multiplies matrices with each other once per step: B and A, for the norms of their sum with W."""
NO_KERNEL = ("qlora", "loftq")
"""The counter does not know of the kernels for four bits."""
COUNTED_CASES = [
    (method, architecture)
    for method, architecture in CASES
    if architecture in ("bert", "gpt2", "llama") and method not in (*PER_STEP, *NO_KERNEL)
]


@pytest.mark.parametrize(("method", "architecture"), COUNTED_CASES)
def test_every_method_counts_what_its_step_computes(method, architecture, tmp_path):
    case = build_case(method, architecture, "placement=all", folder=tmp_path)
    assert counted(case) == pytest.approx(measured(case) / NUM_TOKENS, rel=1e-9)


@pytest.mark.parametrize("method", ["full", "lora", "top_layers"])
def test_encoder_and_decoder_count_what_each_of_them_computes(method, tmp_path):
    case = build_case(method, "t5", "placement=all", folder=tmp_path)
    assert counted(case) == pytest.approx(measured(case) / NUM_TOKENS, rel=1e-9)


def test_experts_count_for_the_tokens_that_go_to_them(tmp_path):
    case = build_case("lora", "qwen3_moe", folder=tmp_path)
    assert counted(case) == pytest.approx(measured(case) / NUM_TOKENS, rel=1e-9)


def test_embeddings_with_adapters_are_looked_up(tmp_path):
    case = build_case("lora", "llama", "placement.roles=[q,embed,unembed]", folder=tmp_path)
    assert counted(case) == pytest.approx(measured(case) / NUM_TOKENS, rel=1e-9)


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_four_bits_multiply_as_whole_numbers_do(architecture, tmp_path):
    found = [counted(build_case(method, architecture, folder=tmp_path)) for method in ("lora", *NO_KERNEL)]
    assert found == [found[0]] * 3


def test_the_last_layers_alone_are_far_from_four_n(tmp_path):
    """4 N + 2 N_trained was 1.40 times what top_layers computes here, and 1.97 times that of adapter_d."""
    for method, ratio in (("top_layers", 1.40), ("adapter_d", 1.97)):
        case = build_case(method, "bert", folder=tmp_path)
        numbers = flops.matrix_numbers(case.net, {}, per_sequence=[*case.placed.head_modules, "pooler"])
        before = 4 * numbers.forward + 2 * numbers.weight_gradient
        assert before / counted(case) == pytest.approx(ratio, abs=0.01)


def test_a_look_through_changes_nothing(tmp_path):
    case = build_case("lora", "bert", "lora.dropout=0.5", folder=tmp_path)
    case.net.train()
    before = {name: value.clone() for name, value in case.net.state_dict().items()}
    state = torch.get_rng_state()
    counted(case)
    assert torch.equal(state, torch.get_rng_state())
    assert case.net.training
    assert all(torch.equal(value, before[name]) for name, value in case.net.state_dict().items())
    assert not any(module._forward_pre_hooks for module in case.net.modules())
    assert all(parameter.grad is None for parameter in case.net.parameters())


def test_lora_is_four_n_plus_six_adapters():
    assert flops.flops_per_token(MatrixNumbers(1000 + 16, 1000 + 16, 16)) == 4 * 1000 + 6 * 16


def test_look_ups_are_no_products_but_a_tied_unembedding_is():
    net = nn.Sequential(nn.Embedding(100, 8), nn.Linear(8, 4))
    assert flops.matrix_numbers(net, {}) == MatrixNumbers(32, 32, 32)
    tied = nn.Sequential(nn.Embedding(100, 8), nn.Linear(8, 100, bias=False))
    tied[1].weight = tied[0].weight
    assert flops.matrix_numbers(tied, {}) == MatrixNumbers(800, 800, 800)


def test_the_table_of_an_adapter_of_embeddings_is_a_look_up():
    net = get_peft_model(nn.Sequential(nn.Embedding(100, 8), nn.Linear(8, 4)), LoraConfig(r=2, target_modules=["0"]))
    assert flops.matrix_numbers(net, {}) == MatrixNumbers(32 + 2 * 8, 32 + 2 * 8, 2 * 8)


def test_nothing_to_multiply_is_refused():
    with pytest.raises(MeasurementError, match="not positive"):
        flops.flops_per_token(MatrixNumbers(0, 0, 0))


def test_measured_rate_is_plausible_and_leaves_the_generator_alone():
    state = torch.get_rng_state()
    rate = flops.peak_flops_per_s(torch.float32, torch.device("cpu"), size=256, repeats=2)
    assert 1e8 < rate < 1e14
    assert torch.equal(state, torch.get_rng_state())


def test_a_slow_dtype_is_measured_on_smaller_matrices(monkeypatch):
    asked = []

    def product_s(dtype, device, *, size, repeats):
        asked.append(size)
        return 2 * size**3 / 1e9  # bf16 under AVX2: 1 GFLOP/s

    monkeypatch.setattr(flops, "_best_product_s", product_s)
    assert flops.peak_flops_per_s(torch.bfloat16, torch.device("cpu")) == pytest.approx(1e9)
    assert asked == [384, 384], "1536 rows would take 7 s a product"
