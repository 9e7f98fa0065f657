"""Every file in `conf/model` and `conf/placement`. Oracle: parameter counts of the published weights.

From the tensors of the repositories on the hub; DeBERTa's from a printed summary of the loaded network
(1,763,803,236 with the masked-language-model head of 199,253,604).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lora_bench.config.placement import PlacementConfig
from lora_bench.config.schema import Source, TaskKind
from lora_bench.models.catalog import check_weights, read_architecture
from lora_bench.models.roles import FAMILIES, OUTSIDE, ROLES, SETS, role_faults
from lora_bench.models.sizes import max_tokens, role_shapes

CONF = Path(__file__).resolve().parents[2] / "conf"
# The base network of encoders (with BERT's pooler), the network with its language-model head of decoders.
PUBLISHED = {
    "minilm": 22_713_216,
    "smollm2-135m": 134_515_008,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    # Without the pooler (590,592 and 1,049,600), which RoBERTa's classifier does not use.
    "roberta-base": 124_645_632 - 590_592,
    "roberta-large": 355_359_744 - 1_049_600,
    "deberta-v2-xxlarge": 1_564_549_632,
    "llama-2-7b": 6_738_415_616,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.1-8b": 8_030_261_248,
    "qwen3-0.6b": 596_049_920,
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
}
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
PLACEMENTS = sorted(path.stem for path in (CONF / "placement").glob("*.yaml"))


def test_every_model_is_there():
    assert set(MODELS) >= {*PUBLISHED, "tiny", "tiny-gpt2", "tiny-llama", "tiny-t5", "tiny-moe"}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_named_like_its_file_and_has_all_that_random_needs(name, model_config, tmp_path):
    model = model_config(name)
    assert model.name == name
    assert (model.source is Source.hub) == (model.package is None and model.hub_id is not None)
    random = model_config(name, source=Source.random)
    assert check_weights(random, cache=tmp_path) == []
    assert role_shapes(random.architecture)
    assert (max_tokens(random.architecture) or 512) >= 256


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_parameters_are_those_of_the_published_weights(name, model_config, load):
    model = model_config(name, source=Source.random)
    is_encoder = FAMILIES[model.architecture["model_type"]].is_encoder
    net = load(model, TaskKind.classification if is_encoder else TaskKind.generation, device="meta")
    counted = net.base_model if is_encoder else net
    assert sum(parameter.numel() for parameter in counted.parameters()) == PUBLISHED[name]


@pytest.mark.parametrize("name", ["minilm"])
def test_the_numbers_are_those_of_the_package(name, model_config):
    model = model_config(name)
    packaged = read_architecture(model)
    assert len(model.architecture) > 10
    assert {key: packaged[key] for key in model.architecture} == model.architecture


@pytest.mark.parametrize("name", PLACEMENTS)
def test_placements(name):
    values = OmegaConf.load(CONF / "placement" / f"{name}.yaml")
    assert values.pop("defaults") == ["base_placement", "_self_"]
    placement = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(PlacementConfig), values))
    assert placement.name == name
    assert role_faults("llama", placement.roles) == []
    if name in ROLES:
        assert placement.roles == [name]


def test_every_role_and_every_set_is_a_placement():
    assert set(PLACEMENTS) == {*ROLES, *SETS, *OUTSIDE}
