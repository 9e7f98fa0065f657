"""Oracle: the same network with its router moved by one unit in the last place, as another CPU may round it."""

from __future__ import annotations

import pytest
import torch
from support.method_cases import batch, build_case

from lora_bench.config.schema import TaskKind
from lora_bench.errors import ModelError
from lora_bench.models.routing import recorded_routing, replayed_routing, routers
from lora_bench.models.split import split_fused

TOLERANCE = 6e-2
"""In bf16, as in the contract of merging."""


@pytest.fixture(params=["mixtral", "qwen3_moe"])
def net(request, tiny_net):
    """Two layers of four experts, two of which a token goes to."""
    return tiny_net(request.param, TaskKind.generation)


@torch.no_grad()
def answers(net):
    return net(input_ids=torch.arange(3, 35).reshape(2, 16)).logits.float()


@torch.no_grad()
def nudge(net, seed=0):
    """Moves every weight of every router by one unit in the last place of bf16, up or down."""
    generator = torch.Generator().manual_seed(seed)
    for router in routers(net):
        sign = torch.randint(0, 2, router.weight.shape, generator=generator) * 2 - 1
        router.weight.copy_((router.weight.bfloat16().view(torch.int16) + sign.short()).view(torch.bfloat16))


@torch.no_grad()
def tie(net):
    """Makes the routers of all layers prefer all experts alike, but for one unit in the last place."""
    for router in routers(net):
        router.weight.copy_(router.weight[:1].expand_as(router.weight).clone())
    nudge(net, seed=1)


def test_a_network_replays_itself_to_the_last_bit(net):
    with recorded_routing(net) as routing:
        before = answers(net)
    assert [tuple(choice.shape) for choice in routing.choices] == [(32, 2)] * 2
    with replayed_routing(net, routing):
        assert torch.equal(answers(net), before)
    assert (routing.num_tokens, routing.share_agreeing, routing.largest_gap) == (64, 1.0, 0.0)
    assert not any(router._forward_hooks for router in routers(net))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tie_that_rounding_decides_changes_the_answer_unless_it_is_replayed(net, dtype):
    net = net.to(dtype)
    tie(net)
    with recorded_routing(net) as routing:
        before = answers(net)
    nudge(net)
    scale = before.abs().max()
    assert (answers(net) - before).abs().max() > TOLERANCE * scale
    with replayed_routing(net, routing):
        replayed = answers(net)
    assert (replayed - before).abs().max() < TOLERANCE * scale
    assert routing.share_agreeing < 0.9, "the router would have chosen others"
    assert 0 < routing.largest_gap < 0.02, "where it would have, it was near a tie"


def test_split_experts_are_held_as_well(net):
    tie(net)
    with recorded_routing(net) as routing:
        before = answers(net)
    split_fused(net, ["up"])
    nudge(net)
    with replayed_routing(net, routing):
        assert (answers(net) - before).abs().max() < TOLERANCE * before.abs().max()


def test_a_fault_of_an_expert_is_not_hidden(net):
    with recorded_routing(net) as routing:
        before = answers(net)
    with torch.no_grad():
        net.get_parameter("model.layers.1.mlp.experts.down_proj")[0].mul_(1.5)
    with replayed_routing(net, routing):
        assert (answers(net) - before).abs().max() > TOLERANCE * before.abs().max()


def test_another_batch_is_refused(net):
    with recorded_routing(net) as routing:
        answers(net)
    told = r"chose \(4, 2\) where \(32, 2\) was recorded; replay the same batch"
    with pytest.raises(ModelError, match=told), replayed_routing(net, routing):
        net(input_ids=torch.ones(1, 4, dtype=torch.long))
    told = "2 of 2 recorded choices of experts were not replayed"
    with pytest.raises(ModelError, match=told), replayed_routing(net, routing):
        pass


@pytest.mark.parametrize("method", ["lora_plus", "lora_fa", "lora", "dora"])
def test_merging_agrees_on_a_cpu_that_rounds_otherwise(method, tmp_path):
    case = build_case(method, "qwen3_moe", folder=tmp_path, dtype=torch.bfloat16)
    case.train()
    with recorded_routing(case.net) as routing:
        expected = case.logits()
    merged = case.method.merge(case.net)
    nudge(merged)
    with replayed_routing(merged, routing):
        torch.testing.assert_close(case.logits(merged), expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert routing.num_tokens == 2 * batch()["input_ids"].numel()
    assert routing.largest_gap < TOLERANCE
