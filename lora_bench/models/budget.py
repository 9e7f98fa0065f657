"""The rank that a parameter budget asks for; needs no torch."""

from __future__ import annotations

from lora_bench.config.schema import RunConfig
from lora_bench.errors import ConfigError, ModelError
from lora_bench.models.catalog import read_architecture
from lora_bench.models.counts import low_rank_parameters
from lora_bench.models.sizes import Architecture


def settle_rank(config: RunConfig) -> RunConfig:
    """The same configuration with `lora.r` set by its budget, where it has one; changes it in place.

    Called before a digest is taken. What keeps it from being met is told by the checks before a run.
    """
    placement, lora = config.placement, config.lora
    if placement is not None and placement.budget is not None and lora is not None:
        try:
            lora.r = budget_rank(config, read_architecture(config.model))
        except (ConfigError, ModelError):
            return config
    return config


def budget_rank(config: RunConfig, architecture: Architecture) -> int:
    """The rank, at least 1, whose adapters come closest to `placement.budget`; the lower of two equally close.

    Raises:
        ConfigError: If the architecture is unknown.
    """
    assert config.placement is not None, "what has a budget is placed"
    assert config.placement.budget is not None, "asked for by budget"
    budget, high = config.placement.budget, 1
    if low_rank_parameters(config, architecture, r=2) == low_rank_parameters(config, architecture, r=1):
        return 1  # every role has a rank of its own
    while low_rank_parameters(config, architecture, r=high) < budget:
        high *= 2
    candidates = range(max(1, high // 2), high + 1)
    return min(candidates, key=lambda r: (abs(low_rank_parameters(config, architecture, r=r) - budget), r))


def budget_note(config: RunConfig, architecture: Architecture) -> list[str]:
    """How close the rank comes to the budget, for the record; nothing without a budget."""
    if config.placement is None or config.placement.budget is None or config.lora is None:
        return []
    budget, count = config.placement.budget, low_rank_parameters(config, architecture, r=config.lora.r)
    off = (
        f"{abs(count - budget) / budget:.1%} {'above' if count > budget else 'below'}" if count != budget else "exactly"
    )
    return [f"budget of {budget:,} parameters: rank {config.lora.r} has {count:,}, {off}"]
