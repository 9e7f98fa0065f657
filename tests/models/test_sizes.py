"""Oracles: the shapes that torch gives the same architectures, and the counts published for LoRA."""

from __future__ import annotations

import pytest
from peft import LoraConfig, get_peft_model

from lora_bench.config.schema import TaskKind
from lora_bench.errors import ConfigError
from lora_bench.models.heads import new_parameter_names
from lora_bench.models.roles import FAMILIES, ROLES, roles_of, target_modules
from lora_bench.models.sizes import (
    adapter_parameters,
    max_tokens,
    num_layers,
    num_matrices,
    placement_faults,
    reads_segments,
    role_shapes,
)
from lora_bench.models.split import split_fused

# LoRA (arXiv:2106.09685), 4.2: 2 * (adapted square matrices) * d * r. The paper prints 0.3 M, 0.8 M, 0.35 M (sic),
# 0.77 M and, for DeBERTa at r=16, 4.7 M.
PUBLISHED = [
    ("roberta-base", 8, ["q", "v"], 294_912),
    ("roberta-large", 8, ["q", "v"], 786_432),
    ("gpt2-medium", 4, ["q", "v"], 393_216),
    ("gpt2-large", 4, ["q", "v"], 737_280),
    ("deberta-v2-xxlarge", 16, ["q", "v"], 4_718_592),
    ("llama-2-7b", 8, ["q", "v"], 4_194_304),
    ("deberta-v2-xxlarge", 8, ["q", "v"], 2_359_296),
]


# "LoRA Without Regret" (Schulman et al., 2025) for Llama-3.1-8B, printed in billions with two digits. They come out if
# the unembedding has an adapter of the same rank in each, which the text does not say.
WITHOUT_REGRET = [
    (["up", "gate", "down"], 128, 0.24),
    (["q", "k", "v", "o"], 256, 0.25),
    (["up", "gate", "down"], 256, 0.49),
    (["q", "k", "v", "o", "up", "gate", "down"], 256, 0.70),
]

# LoRA (arXiv:2106.09685), tables 4 to 6 and 15: GPT-3 175B, whose layers are those of GPT-2; printed 4.7, 18.8, 37.7 M.
GPT3 = {"model_type": "gpt2", "n_embd": 12_288, "n_layer": 96, "n_head": 96, "n_inner": None}
GPT3_COUNTS = [
    (["v"], 2, 4_718_592),
    (["q", "v"], 1, 4_718_592),
    (["q", "v"], 4, 18_874_368),
    (["q", "v"], 8, 37_748_736),
    (["q", "k", "v", "o"], 2, 18_874_368),
]


def shape_of(module) -> tuple[int, int]:
    """In and out features; a Conv1D keeps its weight the other way round."""
    out_features, in_features = module.weight.shape
    return (out_features, in_features) if type(module).__name__ == "Conv1D" else (in_features, out_features)


def test_shapes_equal_those_of_torch(model_type, tiny_architecture, tiny_net):
    net = tiny_net(model_type, device="meta")
    split_fused(net, ROLES)
    shapes = role_shapes(tiny_architecture(model_type))
    assert tuple(shapes) == roles_of(model_type)
    for role, shape in shapes.items():
        targets = target_modules(net, [role])
        assert num_layers(tiny_architecture(model_type)) == 2
        assert len(targets) == num_matrices(tiny_architecture(model_type), role, range(2))
        assert {shape_of(net.get_submodule(name)) for name in targets} == {shape}


def test_shapes_of_a_saved_configuration_equal_those_of_the_given_numbers(model_type, tiny_architecture, tiny_net):
    assert role_shapes(tiny_net(model_type, device="meta").config.to_dict()) == role_shapes(
        tiny_architecture(model_type)
    )


@pytest.mark.parametrize(("name", "r", "roles", "count"), PUBLISHED)
def test_published_counts_without_torch(name, r, roles, count, model_config):
    assert adapter_parameters(model_config(name).architecture, roles, r) == count


@pytest.mark.parametrize(("name", "r", "roles", "count"), PUBLISHED)
def test_published_counts_through_peft(name, r, roles, count, model_config, load):
    model = model_config(name)
    kind = TaskKind.classification if FAMILIES[model.architecture["model_type"]].is_encoder else TaskKind.generation
    net = load(model, kind, device="meta")
    num_base = sum(parameter.numel() for parameter in net.parameters())
    heads = set(new_parameter_names(net))
    split_fused(net, roles)
    adapted = get_peft_model(net, LoraConfig(r=r, target_modules=target_modules(net, roles)))
    assert sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad) == count
    assert sum(parameter.numel() for parameter in adapted.parameters()) == num_base + count
    assert bool(heads) == (kind is TaskKind.classification)
    if name == "llama-2-7b":
        assert num_base + count == 6_742_609_920


@pytest.mark.parametrize(("roles", "r", "billions"), WITHOUT_REGRET)
def test_counts_of_lora_without_regret(roles, r, billions, model_config):
    count = adapter_parameters(model_config("llama-3.1-8b").architecture, [*roles, "unembed"], r)
    assert f"{count / 1e9:.2f}" == f"{billions:.2f}"


@pytest.mark.parametrize(("roles", "r", "count"), GPT3_COUNTS)
def test_counts_of_gpt3(roles, r, count):
    assert adapter_parameters(GPT3, roles, r) == count


def test_every_role_of_every_family_counts_as_peft_counts(model_type, tiny_architecture, tiny_net):
    net = tiny_net(model_type, device="meta")
    split_fused(net, ROLES)
    # Two of the experts act on a token.
    ranks = {r".*\.experts\..*": 1}
    adapted = get_peft_model(net, LoraConfig(r=2, target_modules=target_modules(net, ROLES), rank_pattern=ranks))
    counted = sum(parameter.numel() for name, parameter in adapted.named_parameters() if "lora_" in name)
    assert counted == adapter_parameters(tiny_architecture(model_type), ROLES, 2) > 0


def test_a_role_named_twice_counts_once(tiny_architecture):
    bert = tiny_architecture("bert")
    assert adapter_parameters(bert, ["q", "q"], 2) == adapter_parameters(bert, ["q"], 2)


def test_a_rank_above_the_smallest_side_is_refused(tiny_architecture):
    llama = tiny_architecture("llama")  # k and v have 2 heads of 8 features, q has 4.
    assert placement_faults(llama, roles=["q", "v"], r=16) == []
    (fault,) = placement_faults(llama, roles=["q", "v"], r=17)
    assert str(fault) == "lora.r: 17 is larger than the smallest adapted side, 16 of role 'v'; use 1 to 16"


def test_faults_name_what_is_wrong_with_the_numbers(tiny_architecture):
    bert = tiny_architecture("bert")
    del bert["intermediate_size"]
    (fault,) = placement_faults(bert, roles=["q"], r=1)
    assert str(fault) == "model.architecture.intermediate_size: None is not a positive whole number"
    with pytest.raises(ConfigError, match=r"model_type: missing; known: bert, "):
        role_shapes({})


def test_roles_are_judged_without_a_rank(tiny_architecture):
    (fault,) = placement_faults(tiny_architecture("bert"), roles=["gate"], r=None)
    assert "matches nothing" in fault.problem


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("minilm", 512), ("roberta-base", 512), ("gpt2", 1024), ("llama-2-7b", 4096), ("tiny-gpt2", 256)],
)
def test_longest_sequences(name, tokens, model_config):
    assert max_tokens(model_config(name).architecture) == tokens


def test_an_architecture_that_says_no_length_has_none():
    assert max_tokens({"model_type": "mamba"}) is None


@pytest.mark.parametrize(
    ("architecture", "wanted"),
    [
        ({"model_type": "bert"}, True),
        ({"model_type": "bert", "type_vocab_size": 1}, False),
        ({"model_type": "roberta", "type_vocab_size": 1}, False),
        ({"model_type": "deberta-v2", "type_vocab_size": 0}, False),
        ({"model_type": "llama"}, False),
        ({"model_type": "gpt2"}, False),
    ],
)
def test_which_networks_tell_two_texts_apart(architecture, wanted):
    assert reads_segments(architecture) is wanted
