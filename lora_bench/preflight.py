"""Everything that can be found wrong before a weight is loaded: all faults of a run, at once, without torch."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from lora_bench.config.identity import without_places
from lora_bench.config.overrides import check_overrides, compose_config, first_value, key_of, set_values
from lora_bench.config.processes import GroupConfig
from lora_bench.config.resolve import resolve, to_plain
from lora_bench.config.schema import INFRASTRUCTURE, RunConfig, TaskConfig
from lora_bench.config.unread import unread_faults
from lora_bench.diskpaths import writing_problem
from lora_bench.errors import ConfigError, Fault
from lora_bench.models import check_weights, method_faults, read_architecture
from lora_bench.models.budget import settle_rank
from lora_bench.rundir import RunDir
from lora_bench.tasks import check_task

_TASK_FAULTS: dict[str, list[Fault]] = {}
"""What was found about a task's data, by its configuration: the points of a grid share it."""


def check_run(config: RunConfig) -> None:
    """Checks data, weights, placement, rank and folders of a resolved configuration.

    Raises:
        ConfigError: With every fault found.
    """
    faults = _find_faults(config)
    if faults:
        raise ConfigError(faults)


def check_built(build: Callable[[], RunConfig], *, words: Mapping[str, str] = MappingProxyType({})) -> RunConfig:
    """Builds a configuration and checks the run: faults of its values and of what it asks for come together.

    Args:
        build: Composes and resolves.
        words: What the command line sets, as `set_values` gives it; what nothing reads of it is a fault. Only where one
            run is trained.

    Raises:
        ConfigError: With every fault found.
    """
    known: list[Fault] = []
    try:
        config = build()
    except ConfigError as err:
        if not isinstance(err.unfinished, RunConfig):
            raise
        config, known = err.unfinished, list(err.faults)
    known += unread_faults(words, [config], is_sweep=False)
    if faults := [*known, *_find_faults(config, known)]:
        raise ConfigError(faults)
    return config


def check_words(overrides: Sequence[str], *, is_sweep: bool) -> None:
    """Checks the words of a command line; where some are wrong, what the others ask for is looked at as well.

    Raises:
        ConfigError: With every fault found.
    """
    faults = check_overrides(overrides, is_sweep=is_sweep)
    if not faults:
        return
    wrong = {fault.key for fault in faults}
    try:
        words = [first_value(word) for word in overrides if not {word, key_of(word)} & wrong]
        words = [word for word in words if "interval(" not in word]
        check_built(lambda: settle_rank(resolve(compose_config(words))), words={} if is_sweep else set_values(words))
    except ConfigError as err:
        faults.extend(err.faults)
    raise ConfigError(faults)


def root_folder(config: RunConfig) -> Path:
    """Where run directories, the MLflow store and studies are."""
    return Path(config.paths.root).expanduser().absolute()


def cache_folder(config: RunConfig) -> Path:
    """Where converted weights and tokenised texts are."""
    return Path(config.paths.cache).expanduser().absolute()


def _find_faults(config: RunConfig, known: Sequence[Fault] = ()) -> list[Fault]:
    """Further faults than those that are known; what a known one spoils is not looked at."""
    spoilt = {fault.key.split(".")[0] for fault in known}
    weight_faults = check_weights(config.model, kind=config.task.kind, cache=cache_folder(config))
    is_model_readable = not weight_faults and "model" not in spoilt
    return [
        *([] if "task" in spoilt else _task_faults(config.task)),
        *([] if "model" in spoilt else weight_faults),
        *([] if "placement" in spoilt else _method_faults(config, is_model_readable=is_model_readable)),
        *_earlier_faults(config),
        *_folder_faults("paths.root", root_folder(config)),
        *_folder_faults("paths.cache", cache_folder(config)),
    ]


def _task_faults(task: TaskConfig) -> list[Fault]:
    key = repr(task)
    if key not in _TASK_FAULTS:
        _TASK_FAULTS[key] = check_task(task)
    return _TASK_FAULTS[key]


def _method_faults(config: RunConfig, *, is_model_readable: bool) -> list[Fault]:
    """What the architecture cannot carry of method and placement."""
    # Where the weights cannot be had, the numbers of the YAML still say what would be wrong with them.
    architecture = read_architecture(config.model) if is_model_readable else config.model.architecture
    return method_faults(config, architecture) if architecture else []


def _earlier_faults(config: RunConfig) -> Iterator[Fault]:
    """Whether the run to go on from differs in its processes alone, and has a checkpoint."""
    if not isinstance(config.processes, GroupConfig) or config.processes.resume_from is None:
        return
    key, given = "processes.resume_from", config.processes.resume_from
    directory = RunDir(Path(given).expanduser())
    if not os.path.isfile(directory.config):
        yield Fault(key, f"{given} is no run directory; give the folder that `run.py` named when that run was started")
        return
    theirs, own = without_places(directory.read_config()), without_places(to_plain(config))
    kept = [name for name in {**theirs, **own} if name not in (*INFRASTRUCTURE, "processes")]
    differing = sorted(name for name in kept if theirs.get(name) != own.get(name))
    if differing:
        yield Fault(key, f"{given} differs in {', '.join(differing)}; only `processes` may differ")
    elif not any(directory.checkpoints.glob("step-*")):
        yield Fault(key, f"{given} has no checkpoint: it is finished, or was stopped before its first one")


def _folder_faults(key: str, folder: Path) -> Iterator[Fault]:
    """Whether files can be made in a folder, or in the nearest one above that exists."""
    if (problem := writing_problem(folder)) is not None:
        yield Fault(key, problem)
