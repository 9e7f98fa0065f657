"""Oracles: the modules of the networks, and clocks that are told the time."""

from __future__ import annotations

import itertools

import pytest
import torch

from lora_bench.artifacts import latency
from lora_bench.artifacts.checks import check_shapes
from lora_bench.artifacts.latency import BASE, CONTROL, build_networks, label_runs, measure_latency
from lora_bench.artifacts.network import logits, probe_batch
from lora_bench.errors import ArtifactError, UsageError


@pytest.mark.parametrize("name", ["bert_qv", "gpt2_qv", "llama_qv"])
def test_merged_has_the_modules_of_the_base_and_unmerged_has_more(trained, name):
    networks = {made.name: made for made, _ in build_networks([trained(name)]).values()}
    merged, unmerged = (
        next(made for key, made in networks.items() if key.endswith(f" {word}")) for word in ("merged", "unmerged")
    )
    assert next(iter(networks)) == BASE
    assert list(networks)[-1] == CONTROL
    assert merged.is_plain
    assert networks[CONTROL].is_plain
    assert merged.num_parameters == networks[BASE].num_parameters < unmerged.num_parameters
    assert not unmerged.is_plain


def test_networks_are_what_their_names_say(trained):
    nets = {name: net for name, (_, net) in build_networks([trained("bert_all"), trained("bert_full")]).items()}
    assert list(nets) == [BASE, "lora all r=4, merged", "lora all r=4, unmerged", "full", CONTROL]
    batch = probe_batch(nets[BASE])
    out = {name: logits(net, batch) for name, net in nets.items()}
    assert torch.equal(out[BASE], out[CONTROL])
    assert nets[BASE] is not nets[CONTROL]
    assert torch.allclose(out["lora all r=4, merged"], out["lora all r=4, unmerged"], atol=1e-4)
    assert not torch.allclose(out["lora all r=4, merged"], out[BASE], atol=1e-2)
    assert all(parameter.requires_grad for net in nets.values() for parameter in net.parameters())


def test_a_method_that_does_not_merge_has_one_network(trained, monkeypatch):
    monkeypatch.setattr(latency, "try_merge", lambda adapted: None)
    assert list(build_networks([trained("bert_qv")])) == [BASE, "lora qv r=2", CONTROL]


def test_a_base_in_four_bits_has_one_network_and_counts_as_numbers(trained):
    pytest.importorskip("bitsandbytes")
    networks = build_networks([trained("gpt2_qlora")])
    assert list(networks) == [BASE, "qlora qv r=2", CONTROL]
    base, packed = networks[BASE][0], networks["qlora qv r=2"][0]
    adapters, head = 2 * 2 * 2 * (32 + 32), 3 * 32  # PEFT keeps a second head
    assert packed.num_parameters == base.num_parameters + adapters + head


def test_every_network_has_its_turn_at_every_shape(trained, monkeypatch):
    shapes = []
    monkeypatch.setattr(
        latency, "_forward", lambda net, shape, kind: lambda: shapes.append((shape, net(**probe_batch(net, shape))))
    )
    told = []
    report = measure_latency(
        [trained("bert_qv")],
        [(1, 4), (2, 8)],
        num_rounds=6,
        num_warmup=1,
        on_shape=lambda *words: told.append(words),
    )
    assert told == [(1, 4, 4), (2, 8, 4)]
    assert [(cell.network, cell.batch, cell.length) for cell in report.cells] == [
        (made.name, *shape) for shape in ((1, 4), (2, 8)) for made in report.networks
    ]
    assert [len(list(group)) for _, group in itertools.groupby(shapes, key=lambda entry: entry[0])] == [28, 28]
    assert all(cell.time.num_rounds == 6 for cell in report.cells)
    assert {cell.ratio.value for cell in report.cells if cell.network == BASE} == {1.0}


def test_noise_is_what_the_base_and_its_copy_are_apart(trained, monkeypatch):
    # ms: the copy is 2 % slower than the base in every round, as one that lies elsewhere in memory.
    times = {BASE: 100.0, "lora qv r=2, merged": 102.0, "lora qv r=2, unmerged": 130.0, CONTROL: 102.0}
    monkeypatch.setattr(latency, "time_in_turns", lambda calls, **_: {name: [times[name]] * 12 for name in calls})
    report = measure_latency([trained("bert_qv")], [(1, 4)], num_rounds=12, num_warmup=0)
    verdicts = {cell.network: cell.is_inside_noise for cell in report.cells}
    assert verdicts == {BASE: True, "lora qv r=2, merged": True, "lora qv r=2, unmerged": False, CONTROL: True}


def test_a_language_model_computes_its_last_position_alone(trained):
    run = trained("llama_qv")
    net = build_networks([run])[BASE][1]
    assert latency._forward(net, (2, 8), run.kind)().shape == (2, 1, net.config.vocab_size)


def test_runs_with_one_label_are_told_apart_by_their_names(trained):
    one = trained("bert_qv")
    assert label_runs([one, trained("bert_all")]) == ["lora qv r=2", "lora all r=4"]
    assert label_runs([one, one]) == [one.name] * 2


def test_too_long_a_text_and_another_base_are_refused(trained):
    with pytest.raises(UsageError, match="--length: 513 tokens are more than the 512 that tiny has positions for"):
        check_shapes([trained("bert_qv")], [(1, 512), (1, 513)])
    with pytest.raises(ArtifactError, match="stand on different bases"):
        check_shapes([trained("bert_qv"), trained("gpt2_qv")], [(1, 8)])
