"""Oracles: what torch counts in the networks themselves, and the counts of the LoRA paper's tables."""

from __future__ import annotations

import pytest

from lora_bench.config import methods
from lora_bench.config.overrides import compose_config
from lora_bench.config.resolve import resolve
from lora_bench.config.schema import TaskKind
from lora_bench.models.counts import adapters, bias_parameters, layer_parameters, trained_parameters
from lora_bench.models.heads import new_parameter_names
from lora_bench.models.roles import find_layers
from lora_bench.models.sizes import hidden_size, num_layers


@pytest.mark.parametrize("kind", list(TaskKind))
def test_biases_and_layers_are_those_of_torch(model_type, kind, tiny_architecture, tiny_net):
    if kind is TaskKind.generation and model_type in ("bert", "roberta", "deberta-v2"):
        pytest.skip("an encoder does not generate")
    net = tiny_net(model_type, kind, device="meta")
    heads = set(new_parameter_names(net))
    biases = [value for name, value in net.named_parameters() if name.endswith(".bias") and name not in heads]
    assert bias_parameters(tiny_architecture(model_type), kind, head_has_pooler=False) == sum(
        value.numel() for value in biases
    )
    layers = find_layers(net)
    assert len(layers) == 2
    for layer, (name, attention_out, mlp_out, last_norm) in enumerate(layers):
        numbers = sum(value.numel() for value in net.get_submodule(name).parameters())
        assert numbers == layer_parameters(tiny_architecture(model_type), layer), name
        assert net.get_submodule(attention_out) is not net.get_submodule(mlp_out)
        assert (last_norm is None) == (model_type not in ("bert", "roberta", "deberta-v2"))


def test_two_layers_of_gpt2_medium_are_the_papers_top_two(model_config):
    # LoRA (arXiv:2106.09685), table 3: FT-Top2, 25.19 M.
    assert 2 * layer_parameters(model_config("gpt2-medium").architecture, 0) == 25_192_448


def test_biases_of_roberta_base_are_the_papers(model_config):
    # LoRA (arXiv:2106.09685), table 2: BitFit, 0.1 M.
    assert (
        bias_parameters(model_config("roberta-base").architecture, TaskKind.classification, head_has_pooler=False)
        == 102_144
    )


def test_biases_of_the_large_deberta_are_those_of_its_network(model_config, load):
    model = model_config("deberta-v2-xxlarge")
    net = load(model, device="meta")
    heads = set(new_parameter_names(net))
    biases = [value for name, value in net.named_parameters() if name.endswith(".bias") and name not in heads]
    assert bias_parameters(model.architecture, TaskKind.classification, head_has_pooler=False) == sum(
        value.numel() for value in biases
    )


# LoRA (arXiv:2106.09685), tables 2 and 3, at the bottlenecks of its table 9 or those that give its numbers; Adapter^D's
# come out where no layer is dropped, which makes it Pfeiffer's. Adapter^H of GPT-2 M is printed as 11.09 M too, which
# no bottleneck gives (112 has 11.06 M); see results/LOG.md.
PAPER_ADAPTERS = [
    ("roberta-base", methods.PfeifferMethodConfig, 16, 304_320),
    ("roberta-base", methods.PfeifferMethodConfig, 48, 894_528),
    ("roberta-large", methods.PfeifferMethodConfig, 64, 3_171_840),
    ("roberta-large", methods.PfeifferMethodConfig, 16, 811_392),
    ("roberta-large", methods.HoulsbyMethodConfig, 64, 6_343_680),
    ("roberta-large", methods.HoulsbyMethodConfig, 8, 835_968),
    ("gpt2-medium", methods.LinMethodConfig, 6, 368_784),
    ("gpt2-medium", methods.LinMethodConfig, 224, 11_089_152),
    ("gpt2-large", methods.LinMethodConfig, 8, 875_808),
    ("gpt2-large", methods.LinMethodConfig, 248, 23_002_848),
]


@pytest.mark.parametrize(("name", "kind", "bottleneck", "count"), PAPER_ADAPTERS)
def test_adapters_of_the_paper(name, kind, bottleneck, count, model_config):
    architecture = model_config(name).architecture
    width, depth = hidden_size(architecture), num_layers(architecture)
    assert adapters(kind(bottleneck=bottleneck, default_lr=1.0), width=width, depth=depth) == count


def test_adapters_of_gpt3():
    # Table 15: Adapter^H at 1, 4, 8, 16 and 64 has 7.1, 21.2, 40.1, 77.9 and 304.4 M; d = 12,288 in 96 layers.
    counts = [
        adapters(methods.HoulsbyMethodConfig(bottleneck=m, default_lr=1.0), width=12_288, depth=96)
        for m in (1, 4, 8, 16, 64)
    ]
    assert [round(count / 1e6, 1) for count in counts] == [7.1, 21.2, 40.1, 77.9, 304.4]


# What a whole configuration trains. The first four: LoRA (arXiv:2106.09685), table 2, whose 4.7 M of DeBERTa are r = 16
# as in its scripts, where its table 10 says 8. Then "LoRA Without Regret" (Schulman et al., 2025), printed in billions
# with two digits, which come out if the unembedding has an adapter of the same rank.
LLAMA = ("model=llama-3.1-8b", "task=arithmetic")
ATTENTION, MLP = "q,k,v,o", "up,gate,down"
CONFIGURED = [
    (("model=roberta-base", "lora.r=8", "placement=qv"), 294_912),
    (("model=roberta-large", "lora.r=8", "placement=qv"), 786_432),
    (("model=deberta-v2-xxlarge", "lora.r=8", "placement=qv"), 2_359_296),
    (("model=deberta-v2-xxlarge", "lora.r=16", "placement=qv"), 4_718_592),
    ((*LLAMA, "lora.r=128", f"placement.roles=[{MLP},unembed]"), 0.24e9),
    ((*LLAMA, "lora.r=256", f"placement.roles=[{ATTENTION},unembed]"), 0.25e9),
    ((*LLAMA, "lora.r=256", f"placement.roles=[{MLP},unembed]"), 0.49e9),
    ((*LLAMA, "lora.r=256", f"placement.roles=[{ATTENTION},{MLP},unembed]"), 0.70e9),
]


@pytest.mark.parametrize(("words", "count"), CONFIGURED)
def test_what_a_configuration_trains_is_what_was_published(words, count, model_config):
    config = resolve(compose_config([*words, "paths.cache=/nowhere"]))
    counted = trained_parameters(config, config.model.architecture)
    assert counted == count if isinstance(count, int) else round(counted / 1e9, 2) == count / 1e9


# GPT-3 175B: layers of GPT-2, d = 12,288 in 96 of them. LoRA (arXiv:2106.09685), tables 4, 5 and 15, in millions, where
# 18.87 is printed as 18.8 and 603.98 as 603.8. Tokens of the prefixes are those that give its numbers; no whole number
# gives those of PreLayer, 20.2 M among them; see results/LOG.md.
GPT3 = {"model_type": "gpt2", "n_embd": 12_288, "n_layer": 96, "n_head": 96, "n_inner": None, "vocab_size": 50_257}
OF_GPT3 = [
    (("lora.r=2", "placement=v"), 4.72),
    (("lora.r=1", "placement=qv"), 4.72),
    (("lora.r=1", "placement=attention"), 9.44),
    (("lora.r=4", "placement=qv"), 18.87),
    (("lora.r=2", "placement=attention"), 18.87),
    (("lora.r=8", "placement=qv"), 37.75),
    (("lora.r=64", "placement=qv"), 301.99),
    (("method=prefix_embed", "method.num_tokens=72"), 0.9),
    (("method=prefix_embed", "method.num_tokens=136"), 1.7),
    (("method=prefix_embed", "method.num_tokens=264"), 3.2),
    (("method=prefix_embed", "method.num_tokens=520"), 6.4),
    (("method=lora_prefix_embed", "method.num_tokens=8", "lora.r=8", "placement=qv"), 37.8),
    (("method=lora_prefix_embed", "method.num_tokens=8", "lora.r=32", "placement=qv"), 151.1),
    (("method=lora_prefix_embed", "method.num_tokens=8", "lora.r=64", "placement=qv"), 302.1),
]


@pytest.mark.parametrize(("words", "millions"), OF_GPT3)
def test_what_the_papers_methods_train_of_gpt3(words, millions):
    config = resolve(compose_config(["model=gpt2-medium", *words, "paths.cache=/nowhere"]))
    digits = len(str(millions).partition(".")[2])
    assert round(trained_parameters(config, GPT3) / 1e6, digits) == millions


def test_no_whole_number_of_tokens_gives_the_papers_prefix_layers():
    """Tables 4 and 15 print 5.1 to 76.1 M, and 52.8 M with LoRA (r = 8); nothing of them is so many times 96 d."""
    words = ["model=gpt2-medium", "placement=qv", "lora.r=8", "paths.cache=/nowhere"]
    alone, beside = (
        [trained_parameters(resolve(compose_config([*words, method, f"method.num_tokens={n}"])), GPT3) for n in (1, 2)]
        for method in ("method=prefix_layer", "method=lora_prefix_layer")
    )
    assert alone[0] == alone[1] - alone[0] == beside[1] - beside[0] == 96 * 12_288
    assert not {5.1, 10.1, 20.2, 44.1, 76.1} & as_printed(0, alone[0])
    assert 52.8 not in as_printed(beside[0] - alone[0], alone[0])


def as_printed(first: int, each: int) -> set[float]:
    """Millions with one digit, rounded and cut, for up to a hundred tokens."""
    counts = [(first + tokens * each) / 1e5 for tokens in range(1, 100)]
    return {found / 10 for count in counts for found in (round(count), int(count))}


def test_biases_of_gpt3_are_not_the_papers():
    """Table 4 prints 14.2 M; its blocks have 11 d each and its last norm d, which makes 13.0 M."""
    assert bias_parameters(GPT3, TaskKind.generation, head_has_pooler=False) == (96 * 11 + 1) * 12_288 == 12_988_416
