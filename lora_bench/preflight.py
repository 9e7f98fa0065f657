"""Everything that can be found wrong before a weight is loaded: all faults of a run, at once, without torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lora_bench.config.schema import RunConfig, TaskConfig
from lora_bench.errors import ConfigError, Fault
from lora_bench.models import check_weights, placement_faults, read_architecture
from lora_bench.tasks import check_task

_TASK_FAULTS: dict[str, list[Fault]] = {}
"""What was found about a task's data, by its configuration: the points of a grid share it."""


def check_run(config: RunConfig) -> None:
    """Checks data, weights, placement, rank and folders of a resolved configuration.

    Raises:
        ConfigError: With every fault found.
    """
    weight_faults = check_weights(config.model, kind=config.task.kind, cache=cache_folder(config))
    faults = [
        *_task_faults(config.task),
        *weight_faults,
        *_placement_faults(config, is_model_readable=not weight_faults),
        *_folder_faults("paths.root", root_folder(config)),
        *_folder_faults("paths.cache", cache_folder(config)),
    ]
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))


def root_folder(config: RunConfig) -> Path:
    """Where run directories, the MLflow store and studies are."""
    return Path(config.paths.root).expanduser().absolute()


def cache_folder(config: RunConfig) -> Path:
    """Where converted weights and tokenised texts are."""
    return Path(config.paths.cache).expanduser().absolute()


def _task_faults(task: TaskConfig) -> list[Fault]:
    key = repr(task)
    if key not in _TASK_FAULTS:
        _TASK_FAULTS[key] = check_task(task)
    return _TASK_FAULTS[key]


def _placement_faults(config: RunConfig, *, is_model_readable: bool) -> list[Fault]:
    """A rank above the smaller side of a matrix adds parameters and no freedom: the product BA has no higher rank."""
    if config.placement is None:
        return []
    # Where the weights cannot be had, the numbers of the YAML still say what would be wrong with them.
    architecture = read_architecture(config.model) if is_model_readable else config.model.architecture
    rank = config.lora.r if config.lora is not None else None
    return placement_faults(architecture, roles=config.placement.roles, r=rank) if architecture else []


def _folder_faults(key: str, folder: Path) -> Iterator[Fault]:
    """Whether files can be made in a folder, or in the nearest one above that exists."""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        yield Fault(key, f"{existing} is a file; give a folder")
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield Fault(key, f"{existing} cannot be written by this user; give a folder that can")
