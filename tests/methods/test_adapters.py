"""Oracle: each kind's definition, computed from the weights around it."""

from __future__ import annotations

import pytest
import torch
from support.method_cases import batch, build_case
from torch import nn
from torch.nn.functional import gelu, layer_norm, relu

from lora_bench.methods.adapters import CHILD, Bottleneck
from lora_bench.models import trained_parameters


@pytest.fixture
def build(tmp_path):
    """A case whose adapters add something."""

    def make(method, architecture, *words):
        case = build_case(method, architecture, *words, folder=tmp_path)
        for module in case.net.modules():
            if isinstance(module, Bottleneck):
                for parameter in module.parameters():
                    nn.init.normal_(parameter, std=0.5)
        return case

    return make


def narrow(adapter, x, activation):
    return activation(x @ adapter.down.weight.T + adapter.down.bias) @ adapter.up.weight.T + adapter.up.bias


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama"])
def test_houlsby_adapts_what_attention_and_feed_forward_write(architecture, build):
    case = build("adapter_h", architecture)
    layer = case.placed.layers[1]
    for name in (layer.attention_out, layer.mlp_out):
        matrix = case.net.get_submodule(name)
        x = torch.randn(2, 5, 32 if name == layer.attention_out else 128 if architecture == "gpt2" else 48)
        written = matrix.forward(x)
        torch.testing.assert_close(matrix(x), written + narrow(matrix.adapter, written, gelu))


@pytest.mark.parametrize(("architecture", "norms"), [("bert", 2 * 2 * 64), ("gpt2", 2 * 2 * 64), ("llama", 2 * 2 * 32)])
def test_houlsbys_norms_are_trained_where_that_is_asked_for(architecture, norms, build):
    """Two layers, two norms each, 32 wide, with biases in BERT and GPT-2."""
    plain, case = build("adapter_h", architecture), build("adapter_h", architecture, "method.norms=true")
    more = sorted(set(case.method.trained(case.net)) - set(plain.method.trained(plain.net)))
    assert sum(case.net.get_parameter(name).numel() for name in more) == norms
    counts = [trained_parameters(one.config, one.config.model.architecture) for one in (plain, case)]
    assert counts[1] - counts[0] == norms
    before = {name: case.net.get_parameter(name).detach().clone() for name in more}
    losses = case.train()
    assert losses[-1] < losses[0]
    assert [name for name in more if torch.equal(before[name], case.net.get_parameter(name))] == []


def test_lin_adapts_the_normed_output_of_the_feed_forward_part(build):
    case = build("adapter_l", "gpt2")
    matrix = case.net.get_submodule(case.placed.layers[0].mlp_out)
    x = torch.randn(2, 5, 128)
    written = matrix.forward(x)
    norm = matrix.adapter.norm
    normed = layer_norm(written, (32,), norm.weight, norm.bias, norm.eps)
    torch.testing.assert_close(matrix(x), written + narrow(matrix.adapter, normed, relu))
    assert not hasattr(case.net.get_submodule(case.placed.layers[0].attention_out), CHILD)


def test_pfeiffer_in_bert_reads_the_normed_sum_and_adds_before_the_norm(build):
    case = build("adapter_p", "bert")
    output = case.net.get_submodule(f"{case.placed.layers[0].name}.output")
    inner, residual = torch.randn(2, 5, 48), torch.randn(2, 5, 32)
    norm = output.LayerNorm
    total = output.dense(inner) + residual
    expected = norm.forward(total + narrow(norm.adapter, norm.forward(total), relu))
    torch.testing.assert_close(output(inner, residual), expected)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_pfeiffer_in_a_decoder_reads_the_sum_that_ends_the_layer(architecture, build):
    case = build("adapter_p", architecture)
    seen = {}
    layer = case.net.get_submodule(case.placed.layers[0].name)
    following = case.net.get_submodule(case.placed.layers[1].name)
    layer.register_forward_hook(lambda module, given, output: seen.update(adapted=_tensor(output)))
    layer.adapter.register_forward_hook(lambda module, given, output: seen.update(read=given[0], added=output))
    following.register_forward_pre_hook(lambda module, given: seen.update(passed=given[0]))
    case.logits()
    torch.testing.assert_close(seen["added"], narrow(layer.adapter, seen["read"], relu))
    assert torch.equal(seen["adapted"], seen["read"] + seen["added"])
    assert torch.equal(seen["passed"], seen["adapted"])


def test_dropped_layers_have_no_adapter_and_no_backward_pass(build):
    case = build("adapter_d", "bert", "method.num_dropped=1")
    first, second = case.placed.layers
    assert not hasattr(case.net.get_submodule(first.last_norm), CHILD)
    assert hasattr(case.net.get_submodule(second.last_norm), CHILD)
    inputs = []
    case.net.get_submodule(second.name).register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    case.net(**{name: value for name, value in batch().items() if name != "labels"})
    assert not inputs[0].requires_grad


def test_dropping_none_is_pfeiffer(tmp_path):
    one = build_case("adapter_d", "bert", "method.num_dropped=0", folder=tmp_path)
    assert one.train() == build_case("adapter_p", "bert", folder=tmp_path).train()


def _tensor(output):
    return output[0] if isinstance(output, tuple) else output
