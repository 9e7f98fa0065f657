"""Oracles: PEFT's own layers in the network, and their count."""

from __future__ import annotations

import copy

import pytest
import torch
from support.method_cases import build_case, configured

from lora_bench.benchmark import run_benchmark
from lora_bench.config.schema import TaskKind
from lora_bench.methods import build_method
from lora_bench.methods.lora import lora_layers
from lora_bench.models import method_faults, trained_parameters
from lora_bench.models.budget import budget_note, budget_rank, settle_rank
from lora_bench.models.load import load_model
from lora_bench.naming import run_dir_for
from lora_bench.placing import place
from lora_bench.preflight import root_folder


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama"])
def test_roles_have_their_own_ranks_and_scales(architecture, tmp_path):
    words = ("placement=qv", "lora.r=2", "placement.rank.q=8", "lora.alpha=16")
    case = build_case("lora", architecture, *words, folder=tmp_path)
    found = {name: (layer.r["default"], layer.scaling["default"]) for name, layer in lora_layers(case.net).items()}
    assert {found[name] for name in case.placed.by_role["q"]} == {(8, 2.0)}
    assert {found[name] for name in case.placed.by_role["v"]} == {(2, 8.0)}
    numbers = sum(value.numel() for name, value in case.method.trained(case.net).items() if "lora_" in name)
    assert numbers == trained_parameters(case.config, case.config.model.architecture)


def test_a_constant_scale_holds_for_every_rank(tmp_path):
    words = ("lora.r=2", "placement.rank.q=8", "lora.alpha_convention=proportional", "lora.alpha=16")
    case = build_case("lora", "bert", *words, folder=tmp_path)
    assert {layer.scaling["default"] for layer in lora_layers(case.net).values()} == {2.0}


@pytest.mark.parametrize("method", ["lora", "dora", "vera", "lora_fa", "pissa", "lora_prefix_layer"])
@pytest.mark.parametrize("architecture", ["roberta", "gpt2"])
def test_layers_are_the_chosen_ones(method, architecture, tmp_path):
    case = build_case(method, architecture, "placement.layers=last:1", folder=tmp_path)
    assert case.placed.target_modules
    assert all(".1." in name for name in case.placed.target_modules)
    own = [name for name in case.method.trained(case.net) if "lora_" in name or "vera_" in name]
    assert own
    assert all(".1." in name for name in own)
    head = case.method.num_head(case.net, case.placed)
    counted = sum(value.numel() for value in case.method.trained(case.net).values())
    assert counted - head == trained_parameters(case.config, case.config.model.architecture)


def test_mixed_ranks_are_saved_loaded_and_merged(tmp_path):
    words = ("placement=all", "placement.rank.down=5", "placement.layers=[1]")
    case = build_case("lora", "gpt2", *words, folder=tmp_path)
    case.train()
    expected = case.logits()
    case.method.save(case.net, tmp_path / "weights")
    fresh = build_case("lora", "gpt2", *words, folder=tmp_path, seed=1)
    fresh.method.load(fresh.net, tmp_path / "weights")
    assert torch.equal(fresh.logits(), expected)
    torch.testing.assert_close(case.logits(case.method.merge(case.net)), expected, rtol=3e-5, atol=3e-5)


@pytest.fixture
def language_model(tmp_path):
    """A method on a decoder with its unembedding; the network, what it was, and its configuration."""

    def make(method, architecture, *words):
        config = configured(method, architecture, "task=arithmetic", *words)
        assert method_faults(config, config.model.architecture) == []
        net = load_model(
            config.model, kind=TaskKind.generation, num_labels=None, cache=tmp_path, dtype=torch.float32, seed=0,
            dropout=0.0, pad_token_id=0,
        )  # fmt: skip
        placed = place(config, net)
        base = copy.deepcopy(net)
        own = build_method(config)
        torch.manual_seed(0)
        return own, own.apply(net, placed), base, config

    return make


@pytest.mark.parametrize("method", ["lora", "dora", "pissa", "olora", "lora_fa", "adalora", "vera"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "phi"])
def test_the_unembedding_is_a_role(method, architecture, language_model):
    words = ("placement.roles=[v,unembed]", "placement.layers=[0]", "lora.bias=lora_only")
    words = words[:2] if method == "vera" or architecture == "llama" else words
    own, net, base, config = language_model(method, architecture, *words)
    trained = own.trained(net)
    counted = sum(value.numel() for value in trained.values())
    assert counted == trained_parameters(config, config.model.architecture)
    ids = torch.arange(3, 15).reshape(2, 6)
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2)
    for _ in range(3):
        net(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        expected = net.eval()(input_ids=ids).logits
        merged = own.merge(net)
        torch.testing.assert_close(merged(input_ids=ids).logits, expected, rtol=1e-4, atol=3e-5)
    # GPT-2 shares the matrix with its embeddings, which must stay as they were.
    assert torch.equal(merged.get_input_embeddings().weight, base.get_input_embeddings().weight)
    assert not torch.equal(merged.get_output_embeddings().weight, base.get_output_embeddings().weight)


@pytest.mark.parametrize("method", ["lora", "rslora", "dora", "qlora", "lora_prefix_embed", "lora_prefix_layer"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt", "gemma"])
def test_embeddings_are_a_role(method, architecture, language_model):
    if method == "dora" and architecture in ("opt", "gemma"):
        pytest.skip("its row of the padding token is zero, see tests/methods/test_dora.py")
    words = ("placement.roles=[v,embed,unembed]", "placement.layers=[0]", "placement.rank.embed=3")
    own, net, base, config = language_model(method, architecture, *words)
    trained = own.trained(net)
    counted = sum(value.numel() for value in trained.values())
    assert counted == trained_parameters(config, config.model.architecture)
    assert {name.split(".")[-2] for name in trained if "embedding_" in name} >= {"lora_embedding_A", "lora_embedding_B"}
    ids = torch.arange(3, 15).reshape(2, 6)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if method in ("lora", "rslora", "dora"):
        torch.testing.assert_close(net.eval()(**inputs).logits, base(**inputs).logits, rtol=1e-5, atol=1e-6)
    # PEFT starts B of embeddings with a deviation of 1, so one step moves far.
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-4)
    losses = []
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(net(**inputs).logits.flatten(0, 1), ids.flatten())
        loss.backward()
        assert all(value.grad is not None for value in trained.values())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    with torch.no_grad():
        expected = net.eval()(**inputs).logits
        merged = own.merge(net)
        if merged is not None:
            torch.testing.assert_close(merged(**inputs).logits, expected, rtol=1e-4, atol=3e-5)
            # Each end has changes of its own, where they shared a table too.
            changes = [
                getattr(merged, name)().weight - getattr(base, name)().weight
                for name in ("get_input_embeddings", "get_output_embeddings")
            ]
            assert all(change.abs().max() > 0 for change in changes)
            assert not torch.equal(*changes)


def test_an_encoder_has_embeddings_to_adapt(tmp_path):
    case = build_case("lora", "bert", "placement=embed", "lora.r=2", folder=tmp_path)
    assert case.placed.target_modules == ("bert.embeddings.word_embeddings",)
    losses = case.train()
    assert losses[-1] < losses[0]
    expected = case.logits()
    case.method.save(case.net, tmp_path / "weights")
    fresh = build_case("lora", "bert", "placement=embed", "lora.r=2", folder=tmp_path, seed=1)
    fresh.method.load(fresh.net, tmp_path / "weights")
    assert torch.equal(fresh.logits(), expected)
    torch.testing.assert_close(case.logits(case.method.merge(case.net)), expected, rtol=3e-5, atol=3e-5)


@pytest.mark.parametrize("method", ["lora", "dora", "lora_fa", "adalora"])
@pytest.mark.parametrize("budget", [300, 1000, 1700])
def test_a_budget_gives_the_closest_rank(method, budget):
    config = configured(method, "bert", "placement=all", f"placement.budget={budget}")
    architecture = config.model.architecture
    chosen = budget_rank(config, architecture)

    def count(r):
        config.lora.r = r
        return trained_parameters(config, architecture)

    assert abs(count(chosen) - budget) == min(abs(count(r) - budget) for r in range(1, 33))


def test_how_close_a_budget_was_met_is_told():
    config = configured("lora", "bert", "placement=q", "placement.budget=1000")
    config.lora.r = budget_rank(config, config.model.architecture)
    assert config.lora.r == 8
    assert budget_note(config, config.model.architecture) == [
        "budget of 1,000 parameters: rank 8 has 1,024, 2.4% above"
    ]
    assert budget_note(configured("lora", "bert"), config.model.architecture) == []


@pytest.mark.parametrize(
    ("method", "words", "told"),
    [
        ("lora", ["placement.layers=first:3"], "placement.layers: 'first:3' goes beyond the 2 layers, 0 to 1"),
        ("lora", ["placement.layers=[0,7]"], "placement.layers: '0,7' goes beyond the 2 layers, 0 to 1"),
        ("lora", ["placement=unembed"], "bert is an encoder and has no unembedding; it has q, k, v, o, up, down"),
        ("lora", ["placement.rank.q=33"], "placement.rank.q: 33 is larger than the smaller side, 32; use 1 to 32"),
        *(
            (
                method,
                ["placement.roles=[q,embed]"],
                f"'embed' is a table that is looked up, and method={method} is made for matrices that multiply; use",
            )
            for method in ("pissa", "olora", "eva", "adalora", "vera", "lora_plus", "lora_fa", "loftq")
        ),
        ("lora", ["placement=embed", "lora.r=33"], "lora.r: 33 is larger than the smallest adapted side, 32 of role"),
        ("adalora", ["placement.rank.q=4"], "placement.rank: method=adalora has one rank for all roles"),
        ("vera", ["placement.budget=400"], "placement.budget: method=vera has no lora.r, so no rank can meet a budget"),
        ("lora", ["placement.budget=200"], "200 is below the 256 parameters of rank 1; give as many, or fewer roles"),
        ("lora", ["placement.budget=99999", "lora.r=391"], "placement.budget: 99,999 asks for too high a rank: 391 is"),
        (
            "lora",
            ["placement=q", "placement.rank.q=4", "placement.budget=900"],
            "placement.budget: every placed role has a rank, so no rank can meet a budget",
        ),
    ],
)
def test_places_that_a_model_lacks_are_refused(method, words, told):
    config = configured(method, "bert", *words)
    (fault,) = method_faults(config, config.model.architecture)
    assert told in str(fault)


def test_a_classifier_has_no_use_for_an_unembedding():
    config = configured("lora", "llama", "placement.roles=[v,unembed]")
    (fault,) = method_faults(config, config.model.architecture)
    assert str(fault) == (
        "placement.roles: 'unembed' turns activations into words, and this task asks for classes; leave it out"
    )


def test_the_record_says_how_close_a_budget_was_met(tiny):
    config = settle_rank(tiny("placement=qv", "placement.budget=1000"))
    result = run_benchmark(config, run_dir_for(config, root_folder(config)))
    assert result.notes.count("budget of 1,000 parameters: rank 4 has 1,024, 2.4% above") == 1
    assert result.sizes.adapter_parameters == 1024


def test_what_was_guessed_is_in_the_record(tiny):
    config = tiny("placement=qv")
    numbers = {"vocab_size": 30_522, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}
    config.model.architecture = {"model_type": "distilbert", **numbers}
    result = run_benchmark(config, run_dir_for(config, root_folder(config)))
    told = "the roles of model_type 'distilbert' are guessed by module names: q is attention.q_lin (1), v is"
    assert [note for note in result.notes if note.startswith(told)]
