"""Oracles: parameters of an adapter in closed form, r (in + out) for each matrix; and PEFT's own count."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModel

from lora_bench.config.overrides import compose_config
from lora_bench.errors import ConfigError
from lora_bench.models import adapter_parameters, read_architecture, target_modules
from lora_bench.search.budget import TOLERANCE, equal_rank, rank_for_budget
from lora_bench.search.compose import compose_run

# One layer's matrices: four of 8 x 8, one of 8 x 24, one of 24 x 8.
SMALL = {
    "model_type": "bert",
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "intermediate_size": 24,
}


@pytest.mark.parametrize(
    ("roles", "num_parameters", "r"),
    [
        (["q"], 3 * 16 * 5, 5),
        (["q", "v"], 3 * 32 * 5, 5),
        (["up", "down"], 3 * 64 * 7, 7),
        (["q"], 3 * 16 * 200 + 3 * 7, 200),
        (["q"], 3 * 16 * 200 + 3 * 9, 201),
    ],
)
def test_the_nearest_rank(roles, num_parameters, r):
    assert rank_for_budget(SMALL, roles, num_parameters) == r


def test_a_budget_that_no_rank_comes_near_to():
    words = r"q\+v comes no nearer to 140 parameters than 96 at rank 1, 31.4% off.*give a larger r"
    with pytest.raises(ConfigError, match=words):
        rank_for_budget(SMALL, ["q", "v"], 140)
    with pytest.raises(ConfigError, match="than 48 at rank 1"):
        rank_for_budget(SMALL, ["q"], 3)


# PEFT 0.21 asks transformers 5.23 by an old name, see methods/lora.py.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("placement", ["q", "qv", "attention", "mlp", "all"])
def test_equal_ranks_are_equal_by_count_of_peft(placement):
    config = compose_run(["model=minilm", f"placement={placement}"])
    r = equal_rank(config, placement="all", r=20)
    budget = adapter_parameters(read_architecture(config.model), compose_config(["placement=all"]).placement.roles, 20)
    with torch.device("meta"):
        net = AutoModel.from_config(AutoConfig.for_model(**config.model.architecture))
    modules = target_modules(net, config.placement.roles)
    net = get_peft_model(net, LoraConfig(r=r, target_modules=modules))
    counted = sum(parameter.numel() for name, parameter in net.named_parameters() if "lora_" in name)
    assert counted == pytest.approx(budget, rel=TOLERANCE)
