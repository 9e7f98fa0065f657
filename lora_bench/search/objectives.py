"""What a study optimises and what it must not exceed: metrics of a result, under the names that MLflow shows.

A *metric* is `eval/accuracy`, `memory/peak_tensor_gib`, `checkpoint/weights_mib` and so on, see `tracking/names.py`.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_bench.config.schema import StudyConfig
from lora_bench.errors import Fault, suggest
from lora_bench.records import MemoryProfile, RunResult, Sizes, Timing
from lora_bench.tracking.names import memory_metrics, result_metrics, size_metrics, timing_metrics

HEADLINE = "headline"
MAXIMIZED = ("perf/tokens_per_s", "perf/achieved_flops_per_s", "perf/utilisation_fraction")
MINIMIZED_SCORES = ("nll", "nll_per_token", "perplexity", "loss")
DIRECTIONS = ("maximize", "minimize")


@dataclass(frozen=True)
class Objective:
    """A metric and which way it is better."""

    metric: str
    direction: str

    @property
    def is_maximized(self) -> bool:
        """Whether more is better."""
        return self.direction == "maximize"

    @property
    def worst(self) -> float:
        """What a run without a value is told as."""
        return -math.inf if self.is_maximized else math.inf

    def better(self, one: float, other: float) -> bool:
        """Whether `one` is strictly better than `other`."""
        return one > other if self.is_maximized else one < other


@dataclass(frozen=True)
class Constraint:
    """A ceiling or a floor on a metric."""

    metric: str
    relation: str
    bound: float

    def __str__(self) -> str:
        return f"{self.metric} {self.relation} {self.bound:g}"

    def violation(self, value: float) -> float:
        """How far a value is out of bounds; 0 or less is inside (Optuna's convention)."""
        return value - self.bound if self.relation == "<=" else self.bound - value


def build_objectives(study: StudyConfig, headline: str) -> tuple[list[Objective], list[Fault]]:
    """The objectives of a study on a task with this headline score, and what is wrong with them."""
    faults: list[Fault] = []
    names = [f"eval/{headline}" if name == HEADLINE else name for name in study.objectives]
    if not names:
        faults.append(Fault("study.objectives", "empty; give at least one metric, or leave it out for `headline`"))
    if study.direction and len(study.direction) != len(names):
        given = f"{len(study.direction)} for {len(names)} objectives"
        faults.append(Fault("study.direction", f"{given}; give one for each, or none for those they are known to have"))
    directions = study.direction if len(study.direction) == len(names) else [known_direction(name) for name in names]
    for name in names:
        faults.extend(_metric_faults("study.objectives", name))
    for direction in directions:
        if direction not in DIRECTIONS:
            near = suggest(direction, DIRECTIONS)
            faults.append(Fault("study.direction", f"'{direction}'{near}; accepted: {', '.join(DIRECTIONS)}"))
    return [Objective(*pair) for pair in zip(names, directions, strict=True)], faults


def recorded_objectives(question: Mapping[str, Any]) -> tuple[Objective, ...]:
    """Return the objectives of a question on record."""
    return tuple(Objective(*reversed(text.split(" ", 1))) for text in question["objectives"])


def build_constraints(texts: Sequence[str]) -> tuple[list[Constraint], list[Fault]]:
    """The constraints of a study, and what is wrong with them."""
    constraints: list[Constraint] = []
    faults: list[Fault] = []
    for text in texts:
        match = re.fullmatch(r"\s*(\S+?)\s*(<=|>=)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*", text)
        if match is None:
            example = "memory/peak_tensor_gib <= 2"
            faults.append(Fault("study.constraints", f"'{text}' is not a bound on a metric; write '{example}'"))
            continue
        faults.extend(_metric_faults("study.constraints", match[1]))
        constraints.append(Constraint(match[1], match[2], float(match[3])))
    return constraints, faults


def known_direction(metric: str) -> str:
    """Scores are better when larger, unless they are losses; costs are better when smaller."""
    if metric.startswith("eval/"):
        return "minimize" if metric.removeprefix("eval/") in MINIMIZED_SCORES else "maximize"
    return "maximize" if metric in MAXIMIZED else "minimize"


def mean_metrics(results: Sequence[RunResult]) -> Mapping[str, float]:
    """Each metric that all of these results have, as its mean over them."""
    tables = [result_metrics(result) for result in results]
    shared = set.intersection(*(set(table) for table in tables)) if tables else set()
    return {name: math.fsum(table[name] for table in tables) / len(tables) for name in sorted(shared)}


@functools.lru_cache
def cost_metrics() -> tuple[str, ...]:
    """Every metric that does not depend on the task."""
    memory = memory_metrics(MemoryProfile(0, 0, 0, 0, 0))
    timing = timing_metrics(Timing(0, 0, 0, None, None, None, 0, None, 0, None, None, None, None))
    sizes = size_metrics(Sizes(0, 0, 0, 0, 0, 0))
    return ("train/final_loss", *memory, *timing, *sizes)


def _metric_faults(key: str, name: str) -> list[Fault]:
    if name.startswith("eval/") or name in cost_metrics():
        return []
    if name.startswith("test/"):
        own = f"eval/{name.removeprefix('test/')}"
        return [Fault(key, f"'{name}' is over the items that judge what was chosen; choose by {own}")]
    near = suggest(name, cost_metrics())
    accepted = f"headline, eval/<score>, {', '.join(cost_metrics())}"
    return [Fault(key, f"no metric '{name}'{near}; accepted: {accepted}")]
