"""Oracle: OmegaConf refuses each of these values; the sentence is ours."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from lora_bench.config.overrides import compose_config
from lora_bench.config.values import shown, value_problem


@pytest.fixture(scope="module")
def tree():
    return compose_config(["model=tiny"])


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("lora.r=eight", "'eight' is not a whole number"),
        ("lora.r=2.5", "'2.5' is not a whole number"),
        ("lora.r=true", "'true' is not a whole number"),
        ("lora.r=", "has no value; give a whole number"),
        ("training.micro_batch_size=", "has no value; give a whole number; null is accepted too"),
        ("training.dtype=", "has no value; accepted: fp32, bf16"),
        ("lora.r='['", "'[' is not a whole number"),
        ("lora.r=null", "null is not accepted here; give a whole number"),
        ("training.lr=fast", "'fast' is not a number"),
        ("training.micro_batch_size=x", "'x' is not a whole number; null is accepted too"),
        ("training.dtype=BF17", "no choice 'BF17' (did you mean 'bf16'?); accepted: fp32, bf16"),
        ("training.activation_checkpointing=maybe", "'maybe' is not true or false"),
        ("placement.roles=q", "'q' is not a list of words: [a,b]"),
        ("placement.roles=[q,[v]]", "'[q,[v]]' is not a list of words: [a,b]"),
        ("study.seeds=[a]", "'[a]' is not a list of whole numbers: [0,1,2]"),
        ("paths.root=[a]", "'[a]' is not text"),
        ("model.architecture=3", "'3' is not a group of keys; set one of them: model_type"),
        ("training.lr=${nope}", "Interpolation key 'nope' not found (given: ${nope})"),
    ],
)
def test_what_does_not_fit_is_told_in_our_words(tree, word, told):
    key, _, text = word.partition("=")
    problem = value_problem(tree, key, OverridesParser.create().parse_override(word).value(), text)
    assert problem is not None
    assert problem.startswith(told)


@pytest.mark.parametrize("word", ["lora.r=8", "training.lr=1", "training.dropout=null", "placement.roles=[q,v]"])
def test_what_fits_passes(tree, word):
    key, _, text = word.partition("=")
    assert value_problem(tree, key, OverridesParser.create().parse_override(word).value(), text) is None


def test_a_long_value_is_cut():
    assert shown("x" * 100) == "x" * 60 + "..."
    assert shown("9" * 100 + ".5") == "9999999999... (100 digits).5"
    assert shown("a\nb") == "a b"
    assert shown("'a b'") == "a b"
    assert [shown(text) for text in ("'", "'a','b'", '"it\'s"')] == ["'", "'a','b'", "it's"]
