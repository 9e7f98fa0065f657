"""Oracles: what torch counts in the networks themselves, and the counts of the LoRA paper's tables."""

from __future__ import annotations

import pytest

from lora_bench.config.schema import TaskKind
from lora_bench.models.counts import bias_parameters, layer_parameters
from lora_bench.models.heads import head_parameter_names
from lora_bench.models.roles import find_layers


@pytest.mark.parametrize("kind", list(TaskKind))
def test_biases_and_layers_are_those_of_torch(model_type, kind, tiny_architecture, tiny_net):
    if kind is TaskKind.generation and model_type in ("bert", "roberta", "deberta-v2"):
        pytest.skip("an encoder does not generate")
    net = tiny_net(model_type, kind, device="meta")
    heads = set(head_parameter_names(net))
    biases = [value for name, value in net.named_parameters() if name.endswith(".bias") and name not in heads]
    assert bias_parameters(tiny_architecture(model_type), kind) == sum(value.numel() for value in biases)
    layers = find_layers(net)
    assert len(layers) == 2
    for name, attention_out, mlp_out, last_norm in layers:
        numbers = sum(value.numel() for value in net.get_submodule(name).parameters())
        assert numbers == layer_parameters(tiny_architecture(model_type)), name
        assert net.get_submodule(attention_out) is not net.get_submodule(mlp_out)
        assert (last_norm is None) == (model_type not in ("bert", "roberta", "deberta-v2"))


def test_two_layers_of_gpt2_medium_are_the_papers_top_two(model_config):
    # LoRA (arXiv:2106.09685), table 3: FT-Top2, 25.19 M.
    assert 2 * layer_parameters(model_config("gpt2-medium").architecture) == 25_192_448


def test_biases_of_roberta_base_are_the_papers(model_config):
    # LoRA (arXiv:2106.09685), table 2: BitFit, 0.1 M.
    assert bias_parameters(model_config("roberta-base").architecture, TaskKind.classification) == 102_144


def test_biases_of_the_large_deberta_are_those_of_its_network(model_config, load):
    model = model_config("deberta-v2-xxlarge")
    net = load(model, device="meta")
    heads = set(head_parameter_names(net))
    biases = [value for name, value in net.named_parameters() if name.endswith(".bias") and name not in heads]
    assert bias_parameters(model.architecture, TaskKind.classification) == sum(value.numel() for value in biases)
