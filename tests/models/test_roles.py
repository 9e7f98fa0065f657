"""Oracle: the module names that transformers gives its networks, and the shapes of their weights."""

from __future__ import annotations

import pytest
from support.tiny_architectures import TINY, TINY_PAIRS
from torch import nn

from lora_bench.errors import ConfigError, ModelError
from lora_bench.models.roles import FAMILIES, ROLES, role_faults, roles_of, target_modules
from lora_bench.models.sizes import active_experts
from lora_bench.models.split import split_fused


def test_every_family_is_tested():
    assert {*TINY, *TINY_PAIRS} == set(FAMILIES)


def test_all_roles_are_all_matrices_of_the_layers(model_type, tiny_net):
    """What is left over in a layer is no matrix product of the input: norms, DeBERTa's positions and convolution."""
    net = tiny_net(model_type, device="meta")
    split_fused(net, ROLES)
    targets = target_modules(net, ROLES)
    layers = FAMILIES[model_type].layers
    linear = {
        name
        for name, module in net.named_modules()
        if f"{layers}." in name and (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D")
    }
    positions = {name for name in linear if name.endswith(("pos_key_proj", "pos_query_proj"))}
    assert set(targets) == linear - positions
    num_experts = active_experts(net.config.to_dict())[1]
    num_matrices = len(roles_of(model_type)) + (num_experts - 1) * len(FAMILIES[model_type].expert_roles)
    assert len(targets) == len(set(targets)) == 2 * num_matrices


def test_bert_output_dense_is_two_roles_and_never_a_head(tiny_net):
    net = tiny_net("bert", device="meta")
    assert target_modules(net, ["o"]) == [f"bert.encoder.layer.{i}.attention.output.dense" for i in (0, 1)]
    assert target_modules(net, ["down"]) == [f"bert.encoder.layer.{i}.output.dense" for i in (0, 1)]


def test_roberta_classifier_is_no_role(tiny_net):
    targets = target_modules(tiny_net("roberta", device="meta"), ROLES)
    assert targets
    assert not [name for name in targets if "classifier" in name]


def test_a_role_that_the_architecture_lacks_is_left_out_of_a_set(tiny_net):
    net = tiny_net("bert", device="meta")
    assert target_modules(net, ["up", "gate", "down"]) == target_modules(net, ["up", "down"])


def test_a_placement_that_matches_nothing_lists_what_exists(tiny_net):
    with pytest.raises(
        ConfigError, match=r"placement.roles: \[gate\] matches nothing in bert; it has q, k, v, o, up, down"
    ):
        target_modules(tiny_net("bert", device="meta"), ["gate"])


def test_roles_in_a_matrix_that_was_not_split_are_refused(tiny_net):
    with pytest.raises(ModelError, match=r"no module .* is called attn.c_attn.q; split_fused"):
        target_modules(tiny_net("gpt2", device="meta"), ["q", "o"])


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("q_proj", "'q_proj' is not a role (did you mean 'q'?); roles are q, k, v, o, up, gate, down"),
        ("value", "did you mean 'v'?"),
        ("donw", "did you mean 'down'?"),
        ("attention", "'attention' is a set, not a role; write placement=attention"),
    ],
)
def test_unknown_roles_get_the_nearest_name(role, words):
    (fault,) = role_faults("bert", ["q", role])
    assert fault.key == "placement.roles"
    assert words in fault.problem


def test_all_unknown_roles_are_named_at_once():
    assert len(role_faults("bert", ["wq", "q", "wv"])) == 2


def test_an_unknown_architecture_is_named():
    (fault,) = role_faults("mamba", ["q"])
    assert "model_type 'mamba'; known: bert, deberta-v2" in fault.problem
