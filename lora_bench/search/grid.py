"""A pure grid: every combination of the values, in the order of the command line, and the baseline beside it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hydra.core.override_parser.types import Override

from lora_bench.config.overrides import compose_config, parse, split_values
from lora_bench.config.resolve import config_digest, resolve
from lora_bench.config.schema import RunConfig
from lora_bench.errors import ConfigError, Fault
from lora_bench.preflight import check_run

METHOD_GROUPS = ("method", "lora", "placement")
"""Keys of the adapting method; the baseline has its own."""


@dataclass(frozen=True)
class GridPoint:
    """One run of a grid."""

    overrides: tuple[str, ...]
    config: RunConfig
    is_baseline: bool = False

    @property
    def digest(self) -> str:
        """Of its resolved configuration."""
        return config_digest(self.config)


def expand_grid(overrides: Sequence[str]) -> list[GridPoint]:
    """All points of a grid, each configuration once, with the baseline's points at the end.

    The last key varies fastest. Points that resolve to the same run (`method=full lora.r=1,4`) are one point.

    Raises:
        ConfigError: With every fault of every point, each said once.
    """
    parsed = parse(overrides)
    combinations = [tuple(combination) for combination in itertools.product(*map(_words, parsed))]
    points = _resolve_all(combinations)
    baseline = points[0].config.study.baseline
    if baseline and all(point.config.method.name != baseline for point in points):
        is_rate_swept = any(item.is_sweep_override() and item.key_or_group == "training.lr" for item in parsed)
        rate_factor = _default_rate_ratio(points[0], baseline) if is_rate_swept else None
        points += _resolve_all([_baseline_overrides(point, baseline, rate_factor) for point in points])
    unique = {point.digest: point for point in reversed(points)}
    ordered = sorted(unique.values(), key=points.index)
    return [replace(point, is_baseline=point.config.method.name == baseline) for point in ordered]


def study_name(points: Sequence[GridPoint], overrides: Sequence[str]) -> str:
    """The user's name, or one made from what is swept: the same for the same command."""
    named = points[0].config.study.name
    if named:
        return named
    swept = [item.key_or_group for item in parse(overrides) if item.is_sweep_override()]
    model, task = points[0].config.model.name, points[0].config.task.name
    return "-".join([Path(model).name, task, *(key.replace("/", ".") for key in swept)])


def _words(item: Override) -> list[str]:
    if item.is_delete():
        return [item.input_line or f"~{item.key_or_group}"]
    prefix = "++" if item.is_force_add() else "+" if item.is_add() else ""
    return [f"{prefix}{item.key_or_group}={value}" for value in split_values(item)]


def _resolve_all(combinations: Sequence[tuple[str, ...]]) -> list[GridPoint]:
    """Composes and checks every point; all faults of all points are raised together."""
    points: list[GridPoint] = []
    faults: dict[Fault, None] = {}
    checked: set[str] = set()
    for words in dict.fromkeys(combinations):
        try:
            point = GridPoint(words, resolve(compose_config(words)))
            if point.digest not in checked:
                check_run(point.config)
                checked.add(point.digest)
            points.append(point)
        except ConfigError as err:
            faults |= dict.fromkeys(err.faults)
    if faults:
        raise ConfigError(list(faults))
    return points


def _baseline_overrides(point: GridPoint, baseline: str, rate_factor: float | None) -> tuple[str, ...]:
    """What the baseline of a point is composed from: the same words without those of its adapting method.

    A single learning rate goes too, since one that suits adapters is about ten times too high for all weights. Swept
    rates are scaled by the ratio of the methods' default rates: as many tries, in the baseline's own range.
    """
    kept = [word for word in point.overrides if _key(word).split(".")[0] not in METHOD_GROUPS]
    kept = [word for word in kept if _key(word) != "training.lr"]
    if rate_factor is not None:
        kept.append(f"training.lr={point.config.training.lr * rate_factor:.4g}")
    return (*kept, f"method={baseline}")


def _default_rate_ratio(point: GridPoint, baseline: str) -> float:
    config = resolve(compose_config(_baseline_overrides(point, baseline, None)))
    return config.method.default_lr / point.config.method.default_lr


def _key(word: str) -> str:
    return word.lstrip("+~").split("=", 1)[0]
