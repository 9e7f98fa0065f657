"""Reads a study file, `sweeps/NAME.yaml`: a question that is worth keeping.

question: Which rank does LoRA need?          in words; shown when the study starts
base: {training.max_steps: 300}                overrides of every run
space: {lora.r: [1, 8, 64]}                    what is varied, see `space.py`
equal_parameters: {placement: all, r: 20}      chooses `lora.r` at each point, see `budget.py`
equal_items: 9600                              chooses `training.max_steps` at each point, so that batches of every size
                                               see as many items
baseline: {method: full, space: {...}}         null for none; without `space`, one is made from the study's own
study: {n_trials: 20, seeds: [0, 1, 2]}        any keys of the group `study`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lora_bench.config.store import SWEEPS_DIR, study_files
from lora_bench.errors import ConfigError, Fault, suggest
from lora_bench.search.space import Space, override_text, space_from_data

KEYS = ("question", "base", "space", "equal_parameters", "equal_items", "baseline", "study")
BASELINE_KEYS = ("method", "base", "space")


@dataclass(frozen=True)
class EqualParameters:
    """The budget that every placement gets: as many adapter parameters as this one at this rank."""

    placement: str
    r: int


@dataclass(frozen=True)
class StudyFile:
    """The content of a study file; what the command line adds is not in it."""

    name: str | None = None
    question: str = ""
    words: tuple[str, ...] = ()
    """Overrides of every run, and the study's own settings."""
    space: Space = field(default_factory=Space)
    equal_parameters: EqualParameters | None = None
    equal_items: int | None = None
    """Training items that every point sees."""
    baseline_words: tuple[str, ...] = ()
    baseline_space: Space | None = None
    """None where the file names none; one is then made from the study's own space."""


@dataclass
class _Reading:
    """A file being read, and what was found wrong with it."""

    name: str
    data: dict[str, Any]
    faults: list[Fault] = field(default_factory=list)

    def section(self, key: str) -> dict[str, Any]:
        """A section that is a mapping, or an empty one."""
        value = self.data.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.faults.append(Fault(f"sweeps/{self.name}.yaml: {key}", "not a mapping of keys to values"))
            return {}
        return dict(value)

    def space(self, data: Mapping[str, Any], where: str) -> Space:
        """The space in a section."""
        try:
            return space_from_data(data, where=f"sweeps/{self.name}.yaml: {where}")
        except ConfigError as err:
            self.faults.extend(err.faults)
            return Space()

    def check_keys(self, given: Mapping[str, Any], accepted: tuple[str, ...], where: str) -> None:
        """Notes every key that means nothing here."""
        for key in set(given) - set(accepted):
            near = suggest(str(key), accepted)
            self.faults.append(
                Fault(f"sweeps/{self.name}.yaml: {where}{key}", f"no such key{near}; accepted: {', '.join(accepted)}")
            )


def read_study_file(name: str, *, folder: Path = SWEEPS_DIR) -> StudyFile:
    """The study of this name.

    Raises:
        ConfigError: If there is none, or with every fault of the file.
    """
    path = folder / f"{name}.yaml"
    if not path.is_file():
        accepted = study_files()
        raise ConfigError(
            [Fault("sweeps", f"no study '{name}'{suggest(name, accepted)}; available: {', '.join(accepted)}")]
        )
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise ConfigError([Fault(f"sweeps/{name}.yaml", "holds no mapping; see sweeps/rank.yaml for one that does")])
    reading = _Reading(name, data)
    reading.check_keys(data, KEYS, "")
    baseline = reading.section("baseline")
    reading.check_keys(baseline, BASELINE_KEYS, "baseline.")
    study = reading.section("study")
    if "baseline" in data:
        study["baseline"] = baseline.get("method", "full") if baseline else None
    read = StudyFile(
        name=name.rsplit("/", 1)[-1],
        question=str(data.get("question", "")),
        words=(*_words(reading.section("base")), *(f"study.{word}" for word in _words(study))),
        space=reading.space(reading.section("space"), "space"),
        equal_parameters=_equal_parameters(reading),
        equal_items=_equal_items(reading),
        baseline_words=tuple(_words(baseline.get("base") or {})),
        baseline_space=reading.space(baseline["space"], "baseline.space") if baseline.get("space") else None,
    )
    if reading.faults:
        raise ConfigError(reading.faults)
    return read


def _words(section: Mapping[str, Any]) -> Iterator[str]:
    for key, value in section.items():
        yield f"{key}={override_text(value)}"


def _equal_parameters(reading: _Reading) -> EqualParameters | None:
    given = reading.section("equal_parameters")
    if not given:
        return None
    if set(given) != {"placement", "r"} or not isinstance(given["r"], int):
        fault = Fault(
            f"sweeps/{reading.name}.yaml: equal_parameters", "give `placement` and `r`: {placement: all, r: 20}"
        )
        reading.faults.append(fault)
        return None
    return EqualParameters(str(given["placement"]), int(given["r"]))


def _equal_items(reading: _Reading) -> int | None:
    given = reading.data.get("equal_items")
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and given > 0):
        return given
    where = f"sweeps/{reading.name}.yaml: equal_items"
    reading.faults.append(Fault(where, f"{given!r} is not a number of items; 9600 are 300 batches of 32"))
    return None
