"""Equal budgets: placements with as many adapter parameters, batches of every size with as many training items."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from lora_bench.config.overrides import compose_config
from lora_bench.config.schema import RunConfig
from lora_bench.errors import ConfigError, Fault
from lora_bench.models import adapter_parameters, read_architecture
from lora_bench.models.sizes import Architecture

TOLERANCE = 0.01
"""Largest part by which the budgets of two placements may differ and still be called equal."""


def rank_for_budget(architecture: Architecture, roles: Sequence[str], num_parameters: int) -> int:
    """The rank whose adapters on these roles come nearest to a number of parameters.

    Raises:
        ConfigError: If even the nearest is more than `TOLERANCE` away.
    """
    per_rank = adapter_parameters(architecture, roles, 1)
    r = max(1, round(num_parameters / per_rank))
    off = abs(r * per_rank - num_parameters) / num_parameters
    if off > TOLERANCE:
        raise ConfigError(
            [
                Fault(
                    "equal_parameters",
                    f"{'+'.join(roles)} comes no nearer to {num_parameters:,} parameters than {r * per_rank:,} at rank "
                    f"{r}, {off:.1%} off, and {TOLERANCE:.0%} is accepted; give a larger r",
                )
            ]
        )
    return r


def steps_for_items(num_items: int, batch_size: int) -> int:
    """The steps in which batches of this size hold so many training items.

    Raises:
        ConfigError: If no whole number of batches does.
    """
    if num_items % batch_size:
        near = num_items // batch_size * batch_size or batch_size
        problem = (
            f"{num_items:,} is not a whole number of batches of {batch_size}; give {near:,}, or another batch size"
        )
        raise ConfigError([Fault("equal_items", problem)])
    return num_items // batch_size


def equal_rank(config: RunConfig, *, placement: str, r: int) -> int:
    """The rank at which this run has as many adapter parameters as `placement` would have at rank `r` on its model.

    Raises:
        ConfigError: If no rank comes near enough.
    """
    assert config.placement is not None, "only arms with adapters have an equal budget"
    architecture = read_architecture(config.model)
    budget = adapter_parameters(architecture, _roles(placement), r)
    return rank_for_budget(architecture, config.placement.roles, budget)


@functools.lru_cache
def _roles(placement: str) -> list[str]:
    return list(compose_config([f"placement={placement}"]).placement.roles)
