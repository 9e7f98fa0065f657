"""Where a configuration's run directory is: named by what it is and by its digest."""

from __future__ import annotations

import re
from pathlib import Path

from lora_bench.config.resolve import config_digest
from lora_bench.config.schema import RunConfig
from lora_bench.rundir import RunDir


def run_dir_for(config: RunConfig, root: Path) -> RunDir:
    """The directory of a configuration, so that the same run finds itself.

    `again=2` is the second training of the same configuration, in `NAME.2`.
    """
    base = root / "runs" / run_name(config)
    return RunDir(base if config.again is None else base.with_name(f"{base.name}.{config.again}"))


def run_name(config: RunConfig) -> str:
    """For people: model, task, method with placement and rank, seed; for programs: the digest's beginning."""
    method = config.method.name
    if config.lora is not None and config.placement is not None:
        placement = re.sub(r"[^\w+.]+", "-", config.placement.name)
        method += f"-{placement}-r{config.lora.r}"
    return f"{config.model.name}-{config.task.name}-{method}-s{config.seed}-{config_digest(config)[:10]}"
