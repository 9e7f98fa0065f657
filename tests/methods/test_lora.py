"""Oracles: the definition of each scale and rate, and torch's own count of what a backward pass keeps."""

from __future__ import annotations

import copy

import pytest
import torch
from support.method_cases import build_case

from lora_bench.config.methods import AlphaConvention
from lora_bench.config.schema import LoraConfig
from lora_bench.methods.fused import FusedLinear
from lora_bench.methods.lora import lora_layers, lora_scaling
from lora_bench.models import trained_parameters
from lora_bench.training.optimizer import build_optimizer


@pytest.mark.parametrize(
    ("convention", "scale"), [("constant", 33 / 16), ("proportional", 33 / 8), ("rslora", 33 / 16**0.5)]
)
def test_the_scale_is_that_of_its_convention(convention, scale, tmp_path):
    assert lora_scaling(LoraConfig(r=16, alpha=33, alpha_convention=AlphaConvention(convention))) == scale
    case = build_case("lora", "bert", "lora.r=16", f"lora.alpha_convention={convention}", folder=tmp_path)
    assert {layer.scaling["default"] for layer in lora_layers(case.net).values()} == {scale}


def test_rslora_is_lora_with_its_scale(tmp_path):
    one = build_case("rslora", "bert", folder=tmp_path)
    other = build_case("lora", "bert", "lora.alpha_convention=rslora", folder=tmp_path)
    assert one.train() == other.train()


@pytest.mark.parametrize("bias", ["lora_only", "all"])
@pytest.mark.parametrize("architecture", ["bert", "gpt2", "qwen2"])
def test_biases_are_trained_counted_and_saved(bias, architecture, tmp_path):
    case = build_case("lora", architecture, f"lora.bias={bias}", folder=tmp_path)
    trained = case.method.trained(case.net)
    head = case.method.num_head(case.net, case.placed)
    numbers = sum(value.numel() for value in trained.values())
    assert numbers - head == trained_parameters(case.config, case.config.model.architecture)
    losses = case.train()
    assert losses[-1] < losses[0]
    expected = case.logits()
    case.method.save(case.net, tmp_path / "weights")
    fresh = build_case("lora", architecture, f"lora.bias={bias}", folder=tmp_path, seed=1)
    fresh.method.load(fresh.net, tmp_path / "weights")
    assert torch.equal(fresh.logits(), expected)
    torch.testing.assert_close(case.logits(case.method.merge(case.net)), expected, rtol=3e-5, atol=3e-5)


def test_b_learns_at_its_own_rate_under_lora_plus(tmp_path):
    case = build_case("lora_plus", "bert", "method.lr_ratio=4", "training.lr=0.5", folder=tmp_path)
    trained = case.method.trained(case.net)
    factors = [case.method.lr_factor(name) for name in trained]
    optimizer = build_optimizer(trained.values(), case.config.training, lr_factors=factors)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {rates[id(p)] for name, p in trained.items() if "lora_B" in name} == {2.0}
    assert {rates[id(p)] for name, p in trained.items() if "lora_B" not in name} == {0.5}


def test_a_ratio_of_one_is_lora(tmp_path):
    one = build_case("lora_plus", "bert", "method.lr_ratio=1", folder=tmp_path)
    assert one.train() == build_case("lora", "bert", folder=tmp_path).train()


def test_lora_fa_keeps_nothing_of_the_width_of_its_inputs(tmp_path):
    kept = {}
    for method in ("lora", "lora_fa"):
        case = build_case(method, "bert", "placement=down", folder=tmp_path)
        layer = next(iter(lora_layers(case.net).values()))
        assert isinstance(layer, FusedLinear)
        kept[method] = _kept(layer, torch.randn(5, 48, requires_grad=True))
    assert kept["lora"] - kept["lora_fa"] == 5 * 48


def test_freezing_a_changes_no_gradient_of_b(tmp_path):
    case = build_case("lora", "bert", folder=tmp_path)
    case.train()
    frozen = copy.deepcopy(case)
    for name, parameter in frozen.net.named_parameters():
        if "lora_A" in name:
            parameter.requires_grad_(False)
    case.backward()
    frozen.backward()
    others = dict(frozen.net.named_parameters())
    for name, parameter in case.net.named_parameters():
        if "lora_B" in name:
            assert torch.equal(parameter.grad, others[name].grad), name
        if "lora_A" in name:
            assert others[name].grad is None


def _kept(layer, x):
    """Numbers that a forward pass keeps for the backward, the layer's own parameters apart."""
    seen = []
    own = {parameter.data_ptr() for parameter in layer.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: seen.append(tensor) or tensor, lambda tensor: tensor):
        layer(x)
    return sum(tensor.numel() for tensor in seen if tensor.data_ptr() not in own)
