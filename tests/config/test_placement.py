"""Oracle: the layers and ranks written out by hand."""

from __future__ import annotations

import pytest

from lora_bench.config.overrides import compose_config
from lora_bench.config.placement import PlacementConfig, RankConfig
from lora_bench.config.resolve import config_digest, from_yaml, resolve, to_plain, to_yaml
from lora_bench.errors import ConfigError


def resolved(*words):
    return resolve(compose_config(["model=tiny", *words]))


@pytest.mark.parametrize(
    ("given", "text", "chosen"),
    [
        ("all", "all", [0, 1, 2, 3, 4, 5]),
        ("first:2", "first:2", [0, 1]),
        ("last:2", "last:2", [4, 5]),
        ("last:9", "last:9", [0, 1, 2, 3, 4, 5]),
        ([5, 0, 2, 0], "0,2,5", [0, 2, 5]),
        ("5, 0,2", "0,2,5", [0, 2, 5]),
        (3, "3", [3]),
    ],
)
def test_layers(given, text, chosen):
    placement = PlacementConfig(name="qv", roles=["q", "v"], layers=given)
    placement.normalise()
    assert placement.layers == text
    assert placement.chosen_layers(6) == chosen
    assert list(placement.faults()) == []


@pytest.mark.parametrize("given", ["first:0", "middle:2", "first", "-1", [1, -2], "1-3", None])
def test_layers_that_mean_nothing_are_refused(given):
    placement = PlacementConfig(name="qv", roles=["q", "v"], layers=given)
    placement.normalise()
    (fault,) = placement.faults()
    assert "is not all, first:N, last:N or numbers as in 0,2,5" in str(fault)


def test_ranks_and_budgets_that_mean_nothing_are_refused():
    placement = PlacementConfig(name="qv", roles=["q", "v"], rank=RankConfig(q=0, gate=4), budget=0)
    told = [str(fault) for fault in placement.faults()]
    assert told == [
        "placement.rank.q: 0 is below 1; leave the role out of placement.roles instead",
        "placement.rank.gate: nothing is placed on 'gate'; placed are q, v",
        "placement.budget: 0 is below 1; null takes lora.r",
    ]


def test_a_name_says_what_roles_do_not():
    config = resolved("placement=qv", "placement.rank.q=4", "placement.layers=last:1")
    assert config.placement.name == "qv last:1 q=4"
    assert resolved("placement=qv").placement.name == "qv"


def test_what_is_not_asked_for_is_in_no_record(tmp_path):
    plain = to_plain(resolved("placement=qv"))
    assert plain["placement"] == {"name": "qv", "roles": ["q", "v"]}
    assert "bias" not in plain["lora"]
    asked = resolved("placement=qv", "placement.rank.v=3", "placement.layers=[1,0]", "lora.bias=all")
    (tmp_path / "config.yaml").write_text(to_yaml(asked))
    again = from_yaml(tmp_path / "config.yaml")
    assert again == asked
    assert config_digest(again) == config_digest(asked) != config_digest(resolved("placement=qv"))


def test_equal_choices_have_one_digest():
    left, right = resolved("placement.layers=[1,0,1]"), resolved('placement.layers="0,1"')
    assert config_digest(left) == config_digest(right)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["method=rslora", "lora.alpha_convention=proportional"], "does not go with method=rslora, which sets it to"),
        (
            ["method=pissa", "lora.init=gaussian"],
            "does not go with method=pissa, which sets it to by_method",
        ),
        (["method=lora", "lora.init=by_method"], "lora.init: by_method is set by methods with a start of their own"),
        (["method=adapter_h", "method.bottleneck=0"], "method.bottleneck: 0 is below 1; it is the width of the narrow"),
        (["method=prefix_embed", "method.num_tokens=0"], "method.num_tokens: 0 is below 1"),
        (["method=adalora", "method.start_part=0.8"], "leave no steps between them; their sum has to be below 1"),
        (["method=eva", "method.rho=0.5"], "0.5 is below 1 or endless; 1 leaves all ranks equal"),
        (["method=lora_plus", "method.lr_ratio=0"], "0.0 is not above 0 and finite; the paper takes 16"),
        (["method=vera", "method.r=0"], "method.r: 0 is below 1; it is the rank of the shared factors"),
        (["method=top_layers", "method.num_layers=0"], "method.num_layers: 0 is below 1"),
        (["method=adapter_d", "method.num_dropped=-1"], "method.num_dropped: -1 is below 0; 0 drops none"),
    ],
)
def test_methods_refuse_values_that_mean_nothing(words, told):
    with pytest.raises(ConfigError) as caught:
        resolved(*words)
    assert told in str(caught.value)
    assert len(caught.value.faults) == 1
