"""Where a configuration's run directory is: named by what it is and by its digest."""

from __future__ import annotations

import re
from pathlib import Path

from lora_bench.config.resolve import config_digest, plain_digest
from lora_bench.config.schema import RunConfig
from lora_bench.errors import RunDirError
from lora_bench.rundir import RunDir

MAX_PLACEMENT = 100
"""Characters of a placement in a run's name: sixty single layers would be no name that a disk takes."""


def run_dir_for(config: RunConfig, root: Path) -> RunDir:
    """The directory of a configuration, so that the same run finds itself.

    `again=2` is the second training of the same configuration, in `NAME.2`. Where the name is that of another
    configuration, whose digest begins alike, the whole digest is in it.
    """
    run = _run_dir(config, root, run_name(config))
    return _run_dir(config, root, run_name(config, num_digits=64)) if _is_of_another(run, config) else run


def run_name(config: RunConfig, *, num_digits: int = 10) -> str:
    """For people: model, task, method with placement and rank, seed; for programs: the digest's beginning."""
    method = config.method.name
    if config.lora is not None and config.placement is not None:
        placement = re.sub(r"[^\w+.]+", "-", config.placement.name)[:MAX_PLACEMENT]
        method += f"-{placement}-r{config.lora.r}"
    return f"{config.model.name}-{config.task.name}-{method}-s{config.seed}-{config_digest(config)[:num_digits]}"


def _run_dir(config: RunConfig, root: Path, name: str) -> RunDir:
    return RunDir(root / "runs" / (name if config.again is None else f"{name}.{config.again}"))


def _is_of_another(run: RunDir, config: RunConfig) -> bool:
    """Whether a record or a configuration is there and has another digest; what cannot be read is told where it is."""
    try:
        if (result := run.read_result()) is not None:
            return result.config_digest != config_digest(config)
        return run.config.exists() and plain_digest(run.read_config()) != config_digest(config)
    except RunDirError:
        return False
