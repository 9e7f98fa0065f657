"""Oracle: the architectures' own initialisation, and what their checkpoints contain."""

from __future__ import annotations

import pytest
import torch

from lora_bench.config.schema import TaskKind
from lora_bench.models.heads import head_modules, new_parameter_names


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("bert", ["classifier"]),
        ("roberta", ["classifier"]),
        ("deberta-v2", ["pooler", "classifier"]),
        ("llama", ["score"]),
    ],
)
def test_heads_by_name(name, heads, tiny_net):
    net = tiny_net(name, device="meta")
    assert head_modules(net, with_pooler=False) == heads
    poolers = ["bert.pooler"] if name == "bert" else []
    assert head_modules(net, with_pooler=True) == [*poolers, *heads]


def test_every_classifier_has_a_head_outside_its_base(model_type, tiny_net):
    net = tiny_net(model_type, device="meta")
    heads = set(new_parameter_names(net))
    base = {f"{net.base_model_prefix}.{name}" for name, _ in net.base_model.named_parameters()}
    assert heads
    assert heads | base == {name for name, _ in net.named_parameters()}
    assert not heads & base


def test_a_language_model_head_belongs_to_the_base(decoder_type, tiny_net):
    net = tiny_net(decoder_type, TaskKind.generation, device="meta")
    assert head_modules(net, with_pooler=True) == []
    assert new_parameter_names(net) == []


def test_the_head_follows_from_the_seed_alone(model_type, tiny_net):
    first, again, other, narrow = (
        tiny_net(model_type, seed=seed, dtype=dtype)
        for seed, dtype in ((1, torch.float32), (1, torch.float32), (2, torch.float32), (1, torch.bfloat16))
    )
    names = new_parameter_names(first)
    for name in names:
        value = first.get_parameter(name)
        assert torch.equal(value, again.get_parameter(name))
        assert torch.equal(value.bfloat16(), narrow.get_parameter(name))
        assert torch.equal(value, other.get_parameter(name)) == (value.ndim == 1), "only biases are constants"
    assert any(first.get_parameter(name).ndim > 1 for name in names)


def test_the_head_has_the_spread_that_its_architecture_says(model_type, tiny_architecture, tiny_net):
    net = tiny_net(model_type, num_labels=400)
    spread = tiny_architecture(model_type).get("initializer_range", 0.02)
    for name in new_parameter_names(net):
        value = net.get_parameter(name)
        if value.ndim > 1:
            # 1024 numbers or more: the standard error of a standard deviation is below 2.3 %.
            assert value.std().item() == pytest.approx(spread, rel=0.08)
        else:
            assert torch.count_nonzero(value) == 0


def test_drawing_leaves_the_global_generator_alone(tiny_net):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    tiny_net("bert")
    assert torch.equal(torch.rand(3), expected)
