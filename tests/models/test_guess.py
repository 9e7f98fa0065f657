"""Oracles: the table of roles, where it knows an architecture; the module names of transformers, where it does not."""

from __future__ import annotations

import re

import pytest
import torch
from support.method_cases import configured

from lora_bench.config.schema import Attention, ModelConfig, Source, TaskKind
from lora_bench.errors import ConfigError
from lora_bench.methods import METHODS, build_method
from lora_bench.models.guess import guess_modules, guess_note, num_numbered_layers
from lora_bench.models.load import load_model
from lora_bench.models.roles import FAMILIES, ROLES, roles_of, target_modules
from lora_bench.placing import place

SHARED = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
UNKNOWN = {
    "distilbert": {"vocab_size": 40, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
    "electra": {**SHARED, "embedding_size": 16, "intermediate_size": 48},
    "bloom": {"vocab_size": 40, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mamba": {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    "olmo2": {**SHARED, "intermediate_size": 48, "pad_token_id": 0},
}


def with_architecture(config, model_type):
    config.model = ModelConfig(
        name=model_type,
        source=Source.random,
        attention=Attention.eager,
        architecture={"model_type": model_type, **UNKNOWN[model_type]},
    )
    return config


@pytest.fixture
def unknown(tmp_path):
    """A configuration on a random network of an architecture that the table lacks, and that network."""

    def make(model_type, *words, method="lora", kind=TaskKind.classification):
        config = with_architecture(configured(method, model_type, *words), model_type)
        net = load_model(
            config.model, kind=kind, num_labels=3 if kind is TaskKind.classification else None, cache=tmp_path,
            dtype=torch.float32, seed=0, dropout=0.0, pad_token_id=0,
        )  # fmt: skip
        return config, net

    return make


def test_the_guess_agrees_with_the_table(model_type, tiny_net):
    if FAMILIES[model_type].fused or FAMILIES[model_type].experts:
        pytest.skip("roles in one matrix have no names of their own")
    net = tiny_net(model_type, device="meta")
    found = guess_modules(net, ROLES, range(2))
    assert found == {role: target_modules(net, [role]) for role in roles_of(model_type)}
    assert num_numbered_layers(net) == 2


@pytest.mark.parametrize(
    ("architecture", "kind", "expected"),
    [
        (
            "distilbert",
            TaskKind.classification,
            {
                "q": "attention.q_lin",
                "k": "attention.k_lin",
                "v": "attention.v_lin",
                "o": "attention.out_lin",
                "up": "ffn.lin1",
                "down": "ffn.lin2",
            },
        ),
        (
            "electra",
            TaskKind.classification,
            {
                "q": "attention.self.query",
                "k": "attention.self.key",
                "v": "attention.self.value",
                "o": "attention.output.dense",
                "up": "intermediate.dense",
                "down": "output.dense",
            },
        ),
        (
            "bloom",
            TaskKind.generation,
            {"o": "self_attention.dense", "up": "mlp.dense_h_to_4h", "down": "mlp.dense_4h_to_h"},
        ),
    ],
)
def test_usual_names_are_found_in_layers_alone(architecture, kind, expected, unknown):
    _, net = unknown(architecture, kind=kind)
    found = guess_modules(net, ROLES, range(2))
    paths = {role: [re.split(r"\.\d+\.", name)[1] for name in names] for role, names in found.items()}
    assert paths == {role: [path, path] for role, path in expected.items()}


def test_what_was_taken_and_what_was_not_found_is_told(unknown):
    config, net = unknown("distilbert", "placement=mlp", "placement.layers=last:1")
    placed = place(config, net)
    assert placed.target_modules == tuple(f"distilbert.transformer.layer.1.ffn.lin{number}" for number in (1, 2))
    assert placed.notes == (
        "the roles of model_type 'distilbert' are guessed by module names: up is ffn.lin1 (1), down is ffn.lin2 (1); "
        "nothing is called like gate",
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["placement=qv"],
            r"placement.roles: \[q, v\] matches nothing in mamba, whose roles are not known; the matrices of its "
            r"layers are called mixer.in_proj, mixer.x_proj, mixer.dt_proj, mixer.out_proj; write such a name or its "
            r"end, placement.roles=\[in_proj\]",
        ),
        (["placement.roles=[in_proj,mixer.x_prj]"], r"\[mixer.x_prj\] matches .* \(did you mean 'mixer.x_proj'\?\)"),
        (["placement.roles=[in_proj]", "placement.layers=first:3"], "'first:3' goes beyond the 2 layers, 0 to 1"),
        (
            ["placement.roles=[in_proj]", "lora.r=33"],
            "lora.r: 33 is larger than the smaller side of .*in_proj, 32; use",
        ),
    ],
)
def test_what_is_not_there_is_refused_with_the_names_that_are(words, told, unknown):
    config, net = unknown("mamba", *words, "task=arithmetic", kind=TaskKind.generation)
    with pytest.raises(ConfigError, match=told):
        place(config, net)


def test_names_are_taken_as_given(unknown):
    config, net = unknown("mamba", "placement.roles=[x_proj,embed]", "task=arithmetic", kind=TaskKind.generation)
    placed = place(config, net)
    assert placed.target_modules == ("backbone.embeddings", *(f"backbone.layers.{i}.mixer.x_proj" for i in (0, 1)))
    assert guess_note(net, ["x_proj"], {"x_proj": ["a.0.b.3.x_proj"]}).endswith(": x_proj is b.*.x_proj (1)")


@pytest.mark.parametrize("method", ["lora", "rslora", "lora_plus", "lora_fa", "dora", "pissa", "adalora", "vera"])
@pytest.mark.parametrize("architecture", ["distilbert", "olmo2"])
def test_placed_methods_train_what_was_guessed(method, architecture, unknown):
    config, net = unknown(architecture, method=method)
    placed = place(config, net)
    wrapped = METHODS[method](config).apply(net, placed)
    trained = [name for name in build_method(config).trained(wrapped) if "lora_" in name or "vera_" in name]
    assert {name for name in placed.target_modules if any(f".{name}." in own for own in trained)} == set(
        placed.target_modules
    )
    assert all(any(f".{name}." in own for name in placed.target_modules) for own in trained)
    ids = torch.arange(3, 15).reshape(2, 6)
    wrapped(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.sum().backward()
