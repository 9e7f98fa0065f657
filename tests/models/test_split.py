"""Oracle: the fused layer itself, before it was taken apart."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model

from lora_bench.config.schema import TaskKind
from lora_bench.errors import ModelError
from lora_bench.models.roles import target_modules
from lora_bench.models.split import SplitLinear, join_fused, split_fused

FUSED = ["gpt2", "gpt_neox", "phi3"]


@pytest.fixture
def ids():
    """Token ids, shape (2, 7)."""
    return torch.randint(3, 40, (2, 7), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FUSED)
def test_joining_restores_every_bit(name, dtype, tiny_net):
    net = tiny_net(name, TaskKind.generation, dtype=dtype)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    kinds = {key: type(module) for key, module in net.named_modules()}
    names = split_fused(net, ["q", "gate"])
    assert names
    assert join_fused(net) == names
    assert {key: type(module) for key, module in net.named_modules()} == kinds
    after = net.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) and after[key].stride() == before[key].stride() for key in before)


@pytest.mark.parametrize("name", FUSED)
def test_a_split_network_computes_the_same(name, tiny_net, ids):
    net = tiny_net(name, TaskKind.generation)
    with torch.no_grad():
        before = net(ids).logits
        assert split_fused(net, ["v", "up"])
        after = net(ids).logits
    # The same sums in another blocking: fp32 rounding of logits of order 0.1.
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)
    assert before.std() > 1e-3


@pytest.mark.parametrize("name", FUSED)
def test_the_parts_hold_their_role_alone(name, tiny_net, ids):
    """Zeroing the part called v must zero what the network takes for its values, and leave q and k."""
    net = tiny_net(name, TaskKind.generation)
    attention = next(module for key, module in net.named_modules() if key.endswith(("attn", "attention")))
    fused_name = {"gpt2": "c_attn", "gpt_neox": "query_key_value", "phi3": "qkv_proj"}[name]
    hidden = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(2))
    before = attention.get_submodule(fused_name)(hidden)
    split_fused(net, ["v"])
    split = attention.get_submodule(fused_name)
    assert isinstance(split, SplitLinear)
    with torch.no_grad():
        split.get_submodule("v").weight.zero_()
        if split.get_submodule("v").bias is not None:
            split.get_submodule("v").bias.zero_()
    after = split(hidden)
    if name == "gpt_neox":  # As its forward reads it: heads, then q, k, v of each.
        q, k, v = after.view(2, 7, 4, 24).chunk(3, dim=-1)
        expected = before.view(2, 7, 4, 24).chunk(3, dim=-1)
    else:
        sizes = [32, 32, 32] if name == "gpt2" else [32, 16, 16]
        q, k, v = after.split(sizes, dim=-1)
        expected = before.split(sizes, dim=-1)
    torch.testing.assert_close(q, expected[0])
    torch.testing.assert_close(k, expected[1])
    assert torch.count_nonzero(v) == 0
    assert torch.count_nonzero(expected[2]) > 0


def test_parameters_are_neither_added_nor_lost(decoder_type, tiny_net):
    net = tiny_net(decoder_type, TaskKind.generation, device="meta")
    before = sum(parameter.numel() for parameter in net.parameters())
    names = split_fused(net, ["q", "k", "v", "gate", "up"])
    assert sum(parameter.numel() for parameter in net.parameters()) == before
    assert bool(names) == (decoder_type in (*FUSED, "mixtral", "qwen3_moe"))


def test_only_matrices_that_hold_a_wanted_role_are_split(tiny_net):
    net = tiny_net("phi3", device="meta")
    assert split_fused(net, ["o", "down"]) == []
    assert split_fused(net, ["gate"]) == ["model.layers.0.mlp.gate_up_proj", "model.layers.1.mlp.gate_up_proj"]
    assert split_fused(net, ["gate"]) == []


def test_frozen_weights_stay_frozen(tiny_net):
    net = tiny_net("gpt2")
    net.requires_grad_(False)
    split_fused(net, ["q"])
    assert not any(parameter.requires_grad for parameter in net.parameters())
    join_fused(net)
    assert not any(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize("name", FUSED)
def test_merged_adapters_survive_the_joining(name, tiny_net, ids):
    net = tiny_net(name, TaskKind.generation)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    split_fused(net, ["q", "v"])
    adapted = get_peft_model(
        net, LoraConfig(r=2, target_modules=target_modules(net, ["q", "v"]), init_lora_weights=False)
    )
    with pytest.raises(ModelError, match="still carries adapters; merge or remove them"):
        join_fused(net)
    with torch.no_grad():
        unmerged = adapted(ids).logits
        joined = adapted.merge_and_unload()
        join_fused(joined)
        merged = joined(ids).logits
    # PEFT's own merge tolerance in fp32.
    torch.testing.assert_close(merged, unmerged, rtol=1e-4, atol=1e-5)
    changed = {key for key, value in joined.state_dict().items() if not torch.equal(value, before[key])}
    fused_name = {"gpt2": "c_attn", "gpt_neox": "query_key_value", "phi3": "qkv_proj"}[name]
    assert changed
    assert all(fused_name in key for key in changed)
    if name == "gpt2":
        weight, old = joined.transformer.h[0].attn.c_attn.weight, before["transformer.h.0.attn.c_attn.weight"]
        assert torch.equal(weight[:, 32:64], old[:, 32:64]), "k has no adapter"
        assert not torch.equal(weight[:, :32], old[:, :32])
