"""Oracle: the words that a user reads."""

from __future__ import annotations

import pytest
from support.method_cases import configured

from lora_bench.models import method_faults


@pytest.mark.parametrize(
    ("architecture", "words", "told"),
    [
        ("llama", ["method=bitfit"], "method: llama has no biases, so bitfit would train nothing; use method=lora"),
        (
            "llama",
            ["method=lora", "lora.bias=all"],
            "lora.bias: llama has no biases, so all would train none; use none",
        ),
        ("qwen2", ["method=lora", "placement=o", "lora.bias=lora_only"], "none of the matrices o has a bias; use all"),
        ("bert", ["method=top_layers", "method.num_layers=3"], "3 is above the 2 layers of the model; use 1 to 2"),
        ("bert", ["method=lora", "lora.r=33"], "lora.r: 33 is larger than the smallest adapted side, 32 of role"),
        ("bert", ["method=dora", "placement=gate"], "matches nothing in bert; it has q, k, v, o, up, down"),
        ("mamba", ["method=ia3"], "model.architecture.model_type: 'mamba' is not known"),
    ],
)
def test_what_cannot_be_carried_is_refused_with_what_would_work(architecture, words, told):
    method, *rest = (word.removeprefix("method=") if index == 0 else word for index, word in enumerate(words))
    config = configured(method, architecture, *rest)
    (fault,) = method_faults(config, config.model.architecture)
    assert told in str(fault)


@pytest.mark.parametrize("method", ["full", "lora", "bitfit", "top_layers", "vera", "ia3"])
def test_what_can_be_carried_is_not(method):
    config = configured(method, "bert")
    assert method_faults(config, config.model.architecture) == []


@pytest.mark.parametrize("method", ["lora", "dora", "vera", "adalora", "eva", "pissa"])
def test_what_is_placed_looks_for_module_names(method):
    config = configured(method, "mamba", "placement.roles=[in_proj]")
    assert method_faults(config, config.model.architecture) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["placement.budget=1000"], "the shapes of model_type 'mamba' are not known before it is loaded, so no rank"),
        (["lora.bias=all"], "lora.bias: the biases of model_type 'mamba' are not known before it is loaded; use none"),
        (["placement.roles=[q,unembed]"], "'unembed' turns activations into words, and this task asks for classes"),
    ],
)
def test_what_module_names_do_not_tell_is_refused(words, told):
    config = configured("lora", "mamba", *words)
    (fault,) = method_faults(config, config.model.architecture)
    assert told in str(fault)


@pytest.mark.parametrize("method", ["full", "bitfit"])
def test_what_needs_to_know_nothing_takes_any_architecture(method):
    config = configured(method, "mamba")
    assert method_faults(config, config.model.architecture) == []


@pytest.mark.parametrize("method", ["adapter_h", "top_layers", "prefix_embed", "prefix_layer", "qlora", "loftq"])
def test_what_has_to_know_the_layers_says_which_are_known(method):
    config = configured(method, "mamba")
    (fault,) = method_faults(config, config.model.architecture)
    assert "'mamba' is not known; known: bert, deberta-v2, " in str(fault)
