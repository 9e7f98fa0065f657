"""From what a configuration says of places to modules of the loaded network."""

from __future__ import annotations

from transformers import PreTrainedModel

from lora_bench.config.schema import RunConfig
from lora_bench.methods import Placed
from lora_bench.models import target_modules
from lora_bench.models.heads import head_modules
from lora_bench.models.split import split_fused


def place(config: RunConfig, net: PreTrainedModel) -> Placed:
    """Finds the placed matrices, with fused ones split where a role asks for a part of one."""
    if config.placement is None:
        return Placed((), tuple(head_modules(net)))
    split_fused(net, config.placement.roles)
    return Placed(tuple(target_modules(net, config.placement.roles)), tuple(head_modules(net)))
