"""From Hydra's composed configuration to one typed, checked `RunConfig`, and to its digest.

All faults of a configuration are gathered and raised at once. This module never imports torch; faults that need
the data or the model's shapes are found in `lora_bench.preflight`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lora_bench.config.bounds import bound_faults
from lora_bench.config.divisors import divisors
from lora_bench.config.identity import folder_digest, settle_files, without_places
from lora_bench.config.methods import LoraInit, MethodConfig
from lora_bench.config.placement import PlacementConfig, is_recorded
from lora_bench.config.processes import HOW_ONLY, GroupConfig
from lora_bench.config.schema import (
    INFRASTRUCTURE,
    FilesConfig,
    LoraConfig,
    RunConfig,
    Source,
    TaskKind,
    TrainingConfig,
)
from lora_bench.config.store import CONF_DIR, SCHEMAS, group_choices
from lora_bench.config.trackinguri import uri_problem
from lora_bench.errors import ConfigError, Fault, suggest
from lora_bench.reading import read_yaml
from lora_bench.shapes import name_problem

MAX_NAME = 100
"""Bytes of a name that becomes part of a folder's."""
_YAML_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the C one takes 1 ms a configuration, not 10


def resolve(composed: DictConfig) -> RunConfig:
    """The typed configuration, normalised: what a method does not use is None.

    Raises:
        ConfigError: With every fault found in the values and between them.
    """
    try:
        config = OmegaConf.to_object(_without_hydra(composed))
    except OmegaConfBaseException as err:
        key = getattr(err, "full_key", None) or "configuration"
        raise ConfigError([Fault(str(key), str(err).splitlines()[0])]) from err
    assert isinstance(config, RunConfig), "conf/config.yaml names base_run first"
    if isinstance(config.task, FilesConfig):
        # First, because the files decide about the kind of the task.
        settle_files(config.task)
    if config.placement is not None:
        config.placement.normalise()
    faults = [*_group_faults(config), *_relation_faults(config)]
    told = {fault.key for fault in faults}
    faults += [fault for fault in bound_faults(config) if fault.key not in told]
    _scale_rate(config.training)
    if config.task.kind is TaskKind.generation:
        config.training.head_lr = None  # A language-model head belongs to the base.
    if not isinstance(config.processes, GroupConfig):
        config.processes = None
    if not config.method.uses_lora:
        config.lora = None
    if not config.method.uses_placement:
        config.placement = None
    if config.lora is not None:
        faults += _fix_lora(config.lora, config.method)
    if config.placement is not None:
        # The order of roles and a role named twice change nothing.
        config.placement.roles = sorted(set(config.placement.roles), key=_role_order)
        config.placement.name = _placement_name(config.placement)
    if config.model.source is Source.folder and config.model.folder:
        config.model.folder_digest = folder_digest(config.model.folder, cache=Path(config.paths.cache).expanduser())
    if faults:
        raise ConfigError(faults, unfinished=config)
    return config


def config_digest(config: RunConfig) -> str:
    """SHA-256 (hex) of the resolved configuration without infrastructure keys: same digest, same run."""
    return plain_digest(to_plain(config))


def plain_digest(plain: dict[str, Any]) -> str:
    """`config_digest` of what a run directory's `config.yaml` holds."""
    data = without_places({key: value for key, value in plain.items() if key not in INFRASTRUCTURE})
    if (processes := data.get("processes")) is not None:
        data["processes"] = {key: value for key, value in processes.items() if key not in HOW_ONLY}
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def to_plain(config: RunConfig) -> dict[str, Any]:
    """The configuration as plain data: enums as users type them."""
    plain = _plain(config)
    assert isinstance(plain, dict), "a dataclass becomes a dict"
    return plain


def to_yaml(config: RunConfig) -> str:
    """The text of a run directory's `config.yaml`."""
    text: str = yaml.dump(to_plain(config), Dumper=_YAML_DUMPER, sort_keys=False, allow_unicode=True)
    return text


def from_yaml(path: Path) -> RunConfig:
    """Reads a `config.yaml` back into typed objects, without Hydra.

    Raises:
        ConfigError: If a key is unknown or a value has the wrong type.
        RecordError: If the file is damaged.
    """
    data = read_yaml(path)
    try:
        typed = OmegaConf.structured(RunConfig)
        for group, value in data.items():
            if isinstance(value, dict) and group in SCHEMAS:
                node = OmegaConf.structured(_schema_of(group, value.get("name")))
                typed[group] = OmegaConf.merge(node, value)
            else:
                typed[group] = value
        config = OmegaConf.to_object(typed)
    except OmegaConfBaseException as err:
        raise ConfigError([Fault(str(path), str(err).splitlines()[0])]) from err
    assert isinstance(config, RunConfig), "built from RunConfig"
    return config


def _schema_of(group: str, name: str | None) -> type:
    members = SCHEMAS[group]
    return members.get(f"base_{name}", next(iter(members.values())))


def _without_hydra(composed: DictConfig) -> DictConfig:
    if "hydra" not in composed:
        return composed
    plain = composed.copy()
    OmegaConf.set_struct(plain, False)
    plain.pop("hydra")
    OmegaConf.set_struct(plain, True)
    return plain


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {key: _plain(getattr(value, key)) for key in _recorded_keys(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def _recorded_keys(group: Any) -> Iterator[str]:
    return (entry.name for entry in dataclasses.fields(group) if is_recorded(entry, getattr(group, entry.name)))


def _fix_lora(lora: LoraConfig, method: MethodConfig) -> Iterator[Fault]:
    """Sets what the method fixes, so that the record says it; refuses another choice than the default."""
    for entry in dataclasses.fields(lora):
        given = getattr(lora, entry.name)
        fixed = method.sets_lora.get(entry.name)
        if given is LoraInit.by_method and fixed is None:
            yield Fault(
                "lora.init", f"by_method is set by methods with a start of their own; method={method.name} has none"
            )
        elif fixed is not None and given not in (entry.default, fixed):
            yield Fault(
                f"lora.{entry.name}",
                f"'{given.value}' does not go with method={method.name}, which sets it to {fixed.value}; leave it out",
            )
        elif fixed is not None:
            setattr(lora, entry.name, fixed)


def _scale_rate(training: TrainingConfig) -> None:
    if training.lr_scale is not None:
        # As somebody would have typed it, so that both are one run.
        training.lr, training.lr_scale = float(f"{training.lr * training.lr_scale:.6g}"), None


def _group_faults(config: RunConfig) -> Iterator[Fault]:
    yield from config.training.faults()
    if isinstance(config.processes, GroupConfig):
        yield from config.processes.faults()
    yield from config.task.faults()
    yield from config.method.faults()
    if config.placement is not None and config.method.uses_placement:
        yield from config.placement.faults()
    if config.lora is not None:
        yield from config.lora.faults()
    if config.seed < 0:
        yield Fault("seed", f"{config.seed} is below 0; a seed is a whole number from 0 up")
    if config.again is not None and config.again < 2:
        yield Fault("again", f"{config.again} is below 2; 2 is the second training of a configuration, null the first")
    yield from _name_faults(config)
    if config.study.baseline is not None and config.study.baseline not in group_choices("method"):
        accepted = group_choices("method")
        near = suggest(config.study.baseline, accepted)
        yield Fault(
            "study.baseline", f"no method '{config.study.baseline}'{near}; available: {', '.join(accepted)}, or null"
        )
    if config.study.n_jobs < 1:
        yield Fault("study.n_jobs", f"{config.study.n_jobs} is below 1; it is the number of runs at a time")
    threads = config.executor.threads_per_run
    if threads is not None and threads < 1:
        yield Fault("executor.threads_per_run", f"{threads} is below 1; null shares the free cores evenly")
    if config.executor.max_retries < 0:
        yield Fault("executor.max_retries", f"{config.executor.max_retries} is below 0; 0 tries no run again")


def _name_faults(config: RunConfig) -> Iterator[Fault]:
    """Of names that become those of folders and of experiments, and of addresses."""
    model, study = config.model.name, config.study.name
    if problem := name_problem(config.task.name):
        yield Fault("task.name", problem)
    if "/" in model:
        yield Fault("model.name", f"'{model}' names folders; use a name without '/'")
    elif not _names_folder(model):
        yield Fault(
            "model.name", f"'{model[:40]}' cannot name a folder; use up to {MAX_NAME} letters, '-', '_' and '.'"
        )
    elif problem := name_problem(model):
        yield Fault("model.name", problem)
    if study is not None and not _names_folder(study):
        problem = f"'{study[:40]}' cannot name a folder; use up to {MAX_NAME} letters, digits, '-', '_' and '.'"
        yield Fault("study.name", problem)
    for key in ("root", "cache"):
        if not getattr(config.paths, key).strip():
            yield Fault(f"paths.{key}", "is empty; give a folder")
    if config.tracking.name == "mlflow":
        if config.tracking.uri and (why := uri_problem(config.tracking.uri)) is not None:
            yield Fault("tracking.uri", why)
        if not config.tracking.experiment.strip():
            yield Fault("tracking.experiment", "is empty; give a name, or unset MLFLOW_EXPERIMENT_NAME")


def _names_folder(name: str) -> bool:
    is_short = 0 < len(name.encode()) <= MAX_NAME
    return is_short and name.isprintable() and "/" not in name and not name.startswith((".", " "))


def _relation_faults(config: RunConfig) -> Iterator[Fault]:
    if isinstance(config.processes, GroupConfig) and config.processes.count >= 1:
        yield from _group_relation_faults(config, config.processes)
    model = config.model
    if model.source is Source.folder and not model.folder:
        yield Fault("model.folder", "not set, and model.source=folder needs it; give a folder with config.json")
    if model.source is Source.package and not model.package:
        yield Fault(
            "model.source", f"'package', but no installed package carries {model.name}; use hub, folder or random"
        )
    if model.source is Source.hub and not model.hub_id:
        yield Fault("model.source", f"'hub', but {model.name} has no hub_id; use its own source, or folder or random")


def _group_relation_faults(config: RunConfig, group: GroupConfig) -> Iterator[Fault]:
    batch, micro = config.training.batch_size, config.training.micro_batch_size
    if batch % group.count:
        fits = ", ".join(map(str, divisors(batch))) or "1"
        yield Fault("processes.count", f"{group.count} does not divide training.batch_size {batch}; use one of {fits}")
    elif micro is not None and micro >= 1 and (batch // group.count) % micro:
        own = f"the {batch // group.count} items of each of {group.count} processes"
        yield Fault("training.micro_batch_size", f"{micro} does not divide {own}; null takes them at once")
    if group.nodes > 1 and config.executor.name != "slurm":
        yield Fault("processes.nodes", f"{group.nodes} machines need executor=slurm, which gives them; 1 is this one")


def _role_order(role: str) -> tuple[int, str]:
    order = ["q", "k", "v", "o", "up", "gate", "down", "embed", "unembed"]
    return (order.index(role), role) if role in order else (len(order), role)


def _placement_name(placement: PlacementConfig) -> str:
    """The named set with these roles, so that equal placements have one name; else the roles themselves."""
    return _named_placements().get(tuple(placement.roles), "+".join(placement.roles)) + placement.differs()


@functools.lru_cache
def _named_placements() -> dict[tuple[str, ...], str]:
    """Roles -> the first of the names in `conf/placement/` that has them; read once, since every run asks."""
    files = sorted((CONF_DIR / "placement").glob("*.yaml"), reverse=True)
    return {tuple(yaml.safe_load(file.read_text(encoding="utf-8"))["roles"]): file.stem for file in files}
