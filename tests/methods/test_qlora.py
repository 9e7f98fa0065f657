"""Oracles: the network with the same rounded weights in whole matrices, and a run that never evaluated."""

from __future__ import annotations

import pytest
import torch
from support.method_cases import build_case
from transformers.pytorch_utils import Conv1D

from lora_bench.measure.memory import num_values, storage_bytes, weight_tensors
from lora_bench.methods.lora import lora_layers
from lora_bench.methods.quantised import dequantised, rounded, weight_of
from lora_bench.training.optimizer import build_optimizer

pytest.importorskip("bitsandbytes")
ARCHITECTURES = ["bert", "gpt2", "llama"]


def matrices(case):
    """What stands in for whole matrices, by name."""
    return {name: module for name, module in case.net.named_modules() if hasattr(module, "was_conv1d")}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_matrix_of_the_layers_is_rounded_and_nothing_else(architecture, tmp_path):
    case = build_case("qlora", architecture, folder=tmp_path)
    plain = build_case("lora", architecture, folder=tmp_path)
    packed = matrices(case)
    for name, module in plain.net.named_modules():
        if name in packed:
            expected = rounded(weight_of(module).contiguous())
            assert torch.equal(dequantised(packed[name]), expected), name
            with torch.no_grad():
                module.weight.copy_(expected.T if packed[name].was_conv1d else expected)
    roles = {"bert": 6, "gpt2": 6, "llama": 7}[architecture]
    assert len(packed) == 2 * roles
    torch.testing.assert_close(case.logits(), plain.logits(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["qlora", "loftq"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_still_learns_after_an_evaluation(method, architecture, tmp_path):
    """bitsandbytes' packing for evaluation, see `quantised._four_bit`; bf16, since that is what it packs for."""
    straight = build_case(method, architecture, "training.lr=0.02", folder=tmp_path, dtype=torch.bfloat16)
    evaluated = build_case(method, architecture, "training.lr=0.02", folder=tmp_path, dtype=torch.bfloat16)
    evaluated.logits()
    for case in (straight, evaluated):
        case.net.train()
    expected = _train(straight)
    evaluating = _train(evaluated, between=evaluated.logits)
    assert evaluating == expected
    assert expected[-1] < expected[0]
    norms = [float(p.grad.norm()) for name, p in evaluated.net.named_parameters() if "lora_B" in name]
    assert min(norms) > 0


def _train(case, between=lambda: None):
    trained = [parameter for name, parameter in case.method.trained(case.net).items() if "lora_" in name]
    optimizer = build_optimizer(trained, case.config.training)
    losses = []
    for _ in range(4):
        between()
        case.net.train()
        optimizer.zero_grad()
        losses.append(case.backward())
        optimizer.step()
    return losses


def test_a_merged_network_is_whole_again(tmp_path):
    case = build_case("qlora", "gpt2", "placement=all", folder=tmp_path)
    case.train()
    expected = case.logits()
    merged = case.method.merge(case.net)
    assert not [name for name, module in merged.named_modules() if hasattr(module, "was_conv1d")]
    assert isinstance(merged.transformer.h[0].mlp.c_fc, Conv1D)
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
    torch.testing.assert_close(case.logits(merged), expected, rtol=3e-5, atol=3e-5)


def test_loftq_is_nearer_to_the_weights_than_rounding_alone(tmp_path):
    base = build_case("lora", "bert", "lora.r=4", folder=tmp_path)
    whole = {name: weight_of(layer.get_base_layer()) for name, layer in lora_layers(base.net).items()}
    errors = {}
    for words in (("qlora",), ("loftq", "method.num_iterations=1"), ("loftq",)):
        case = build_case(words[0], "bert", "lora.r=4", *words[1:], folder=tmp_path)
        errors[words] = sum(
            float(
                (dequantised(layer.get_base_layer()) + layer.get_delta_weight("default").detach() - whole[name]).norm()
            )
            for name, layer in lora_layers(case.net).items()
        )
    assert errors["loftq", "method.num_iterations=1"] < 0.95 * errors["qlora",]
    assert errors["loftq",] < errors["loftq", "method.num_iterations=1"]


def test_four_bits_are_counted_as_numbers_and_weighed_as_bytes(tmp_path):
    case, plain = (build_case(method, "llama", folder=tmp_path) for method in ("qlora", "lora"))
    counted = sum(num_values(parameter) for parameter in case.net.parameters())
    assert counted == sum(parameter.numel() for parameter in plain.net.parameters())
    packed = list(matrices(case).values())
    numbers = sum(num_values(module.weight) for module in packed)
    own = storage_bytes(weight_tensors(case.net)) - storage_bytes(
        [p for name, p in case.net.named_parameters() if not hasattr(p, "quant_state")]
    )
    # Half a byte each, a scale of one byte for every 64, and for each matrix the tables of both codes.
    tables = len(packed) * 4 * (16 + 256)
    assert numbers / 2 + numbers / 64 + tables <= own <= numbers / 2 + numbers / 64 + tables + 16 * len(packed)
