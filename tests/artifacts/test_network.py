"""Oracles: the loaded base itself, and the rules that the functions state."""

from __future__ import annotations

import torch
from torch import nn

from lora_bench.artifacts.network import (
    cast_parameters,
    is_quantised,
    load_adapted,
    load_base,
    probe_batch,
    relative_difference,
)


def test_casting_leaves_buffers_as_they_were_made():
    net = nn.BatchNorm1d(3)
    assert cast_parameters(net, torch.bfloat16) is net
    assert {parameter.dtype for parameter in net.parameters()} == {torch.bfloat16}
    assert net.running_mean.dtype == torch.float32


def test_the_probe_is_the_same_for_all_and_holds_no_padding(trained):
    base = load_base(trained("gpt2_qv"))
    batch = probe_batch(base, (8, 64))
    assert batch["input_ids"].shape == (8, 64)
    assert int(batch["input_ids"].max()) < base.config.vocab_size
    assert not (batch["input_ids"] == base.config.pad_token_id).any()
    assert torch.equal(batch["input_ids"], probe_batch(load_adapted(trained("gpt2_qv")).net, (8, 64))["input_ids"])


def test_the_base_has_the_names_of_its_classes_and_is_not_drawn_from_the_callers_generator(trained):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    adapted = load_adapted(trained("bert_qv"))
    assert torch.equal(torch.get_rng_state(), before)
    assert adapted.net.config.id2label == {0: "negative", 1: "neutral", 2: "positive"}
    assert not adapted.net.training


def test_integers_are_quantised_and_differences_are_parts_of_the_largest():
    net = nn.Linear(2, 2)
    assert not is_quantised(net)
    net.packed = nn.Parameter(torch.zeros(2, dtype=torch.uint8), requires_grad=False)
    assert is_quantised(net)
    assert relative_difference(torch.tensor([1.0, -4.0]), torch.tensor([2.0, -4.0])) == 0.25
