"""Oracles: the network before its experts were taken apart, PEFT's LoRA on each of them, and closed forms."""

from __future__ import annotations

import pytest
import torch
from support.method_cases import configured

from lora_bench.config.schema import TaskKind
from lora_bench.errors import ModelError
from lora_bench.models import method_faults
from lora_bench.models.counts import layer_parameters
from lora_bench.models.sizes import adapter_parameters, role_shapes
from lora_bench.models.split import join_fused, split_fused

EXPERTS = "model.layers.0.mlp.experts"


@pytest.fixture(params=["mixtral", "qwen3_moe"])
def net(request, tiny_net):
    """Two layers of four experts, two of which a token goes to."""
    return tiny_net(request.param, TaskKind.generation)


def answers(net):
    ids = torch.arange(3, 35).reshape(2, 16)
    with torch.no_grad():
        return net(input_ids=ids).logits


def test_joining_restores_every_bit(net):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert split_fused(net, ["down"], [0]) == [EXPERTS]
    assert join_fused(net) == [EXPERTS]
    after = net.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_split_experts_compute_the_same(net):
    before = answers(net)
    split_fused(net, ["up"])
    # fp32: the same sums in another order.
    torch.testing.assert_close(answers(net), before, rtol=1e-5, atol=2e-6)
    assert split_fused(net, ["up"]) == [], "what was split stays so"


def test_each_part_is_its_rows_of_the_block(net):
    gate_up = net.get_parameter(f"{EXPERTS}.gate_up_proj").detach().clone()
    down = net.get_parameter(f"{EXPERTS}.down_proj").detach().clone()
    split_fused(net, ["gate"])
    for index in range(4):
        parts = {role: net.get_parameter(f"{EXPERTS}.{index}.w_{role}.weight") for role in ("gate", "up", "down")}
        assert torch.equal(torch.cat([parts["gate"], parts["up"]]), gate_up[index])
        assert torch.equal(parts["down"], down[index])


def test_an_expert_without_a_token_has_a_gradient_of_zero(net):
    split_fused(net, ["up"])
    experts = net.get_submodule(EXPERTS)
    x_NI = torch.randn(5, 32)
    chosen = torch.tensor([[0, 1]] * 5)
    experts(x_NI, chosen, torch.full((5, 2), 0.5)).sum().backward()
    assert experts.get_parameter("3.w_up.weight").grad.abs().max() == 0
    assert experts.get_parameter("0.w_up.weight").grad.abs().max() > 0


def test_experts_with_adapters_are_not_joined(net):
    split_fused(net, ["up"])
    net.set_submodule(f"{EXPERTS}.1.w_up", torch.nn.Sequential(net.get_submodule(f"{EXPERTS}.1.w_up")))
    with pytest.raises(ModelError, match="an expert still carries adapters; merge or remove them before join_fused"):
        join_fused(net)


def test_the_rank_of_all_experts_is_that_of_a_token(tiny_architecture):
    architecture = tiny_architecture("qwen3_moe")
    # 2 layers, 4 experts of rank 8 / 2, 32 + 24 features.
    assert adapter_parameters(architecture, ["up"], 8) == 2 * 4 * 4 * (32 + 24)
    assert role_shapes(architecture)["up"] == (32, 24)


def test_mixtral_counts_what_was_published():
    """Of mistralai/Mixtral-8x7B-v0.1, 46,702,792,704 numbers: layers, two tables of 32,000 words and the last norm."""
    published = {
        "model_type": "mixtral",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    }
    assert 32 * layer_parameters(published, 0) + 2 * 32_000 * 4096 + 4096 == 46_702_792_704
    assert adapter_parameters(published, ["up"], 16) == 32 * 8 * 8 * (4096 + 14336)


def test_qwen3_30b_splits_rank_eight_ways():
    """Of Qwen/Qwen3-30B-A3B: 48 layers, 128 experts of 768, 8 of which a token goes to."""
    published = {
        "model_type": "qwen3_moe",
        "hidden_size": 2048,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
    }
    assert adapter_parameters(published, ["up", "gate", "down"], 32) == 48 * 128 * 3 * 4 * (2048 + 768)


@pytest.mark.parametrize(
    ("method", "words", "told"),
    [
        ("lora", ["lora.r=3"], "lora.r: 3 cannot be split over the 2 experts that a token of role 'up' goes to; use 2"),
        ("lora", ["lora.r=1"], "lora.r: 1 cannot be split over the 2 experts that a token of role 'up' goes to; use 2"),
        ("lora", ["placement.rank.down=5"], "placement.rank.down: 5 cannot be split over the 2 experts"),
        ("lora", ["placement.rank.down=50"], "placement.rank.down: 50 is larger than the smaller side, 48; use 1 to"),
        ("lora", ["placement.budget=9000"], "placement.budget: the rank of 'up' goes in steps of the 2 experts"),
        (
            "adalora",
            ["lora.r=4"],
            "method: adalora moves ranks between matrices, and that of the experts is split evenly",
        ),
        ("qlora", [], "method: qlora rounds matrices, and the experts of a layer lie in one block; on qwen3_moe use"),
        ("vera", [], "method: vera has one pair of matrices for all and no rank to split over experts; on qwen3_moe"),
        ("ia3", [], "method: ia3 scales the one input of the down projection, and here each expert has its own; on"),
        ("adapter_p", [], "method: adapter_p stands after the one down projection, and here each expert has its own"),
        ("pissa", [], "method: pissa takes its start from the base, and in bf16 what that rounds off sends tokens"),
        ("eva", [], "method: eva looks at what each matrix reads, and an expert that no token goes to reads nothing"),
    ],
)
def test_what_experts_cannot_carry_is_refused_with_what_would_work(method, words, told):
    config = configured(method, "qwen3_moe", *words)
    (fault,) = method_faults(config, config.model.architecture)
    assert told in str(fault)


def test_layers_without_experts_among_those_with_are_refused():
    config = configured("full", "qwen3_moe")
    config.model.architecture = {**config.model.architecture, "mlp_only_layers": [1]}
    (fault,) = method_faults(config, config.model.architecture)
    assert "model.architecture: some layers have no experts; only networks with experts in every layer" in str(fault)
