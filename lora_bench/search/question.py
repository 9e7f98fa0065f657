"""What a study asks: its arms, seeds, objectives and constraints, from the command line and from a study file.

An *arm* is one space that is searched on its own: the study's own, and that of the baseline. Each gets the same
number of trials and the same seeds, so that the best of one may be compared with the best of the other.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override

from lora_bench.config.dirs import adopt_config_dirs
from lora_bench.config.overrides import parse, set_values
from lora_bench.config.rates import default_rate
from lora_bench.config.schema import INFRASTRUCTURE, RunConfig, StudyConfig
from lora_bench.config.unread import grid_faults, is_judged, pruner_faults, unread_faults
from lora_bench.errors import ConfigError, Fault, suggest
from lora_bench.search.budget import equal_rank, steps_for_items
from lora_bench.search.compose import compose_run, with_seed
from lora_bench.search.objectives import Constraint, Objective, build_constraints, build_objectives
from lora_bench.search.pruning import PRUNERS
from lora_bench.search.space import Dimension, Point, Space, dimension_from, words_of
from lora_bench.search.studyfile import EqualParameters, StudyFile, read_study_file
from lora_bench.tasks import load_task

STEPS = "training.max_steps"
METHOD_GROUPS = ("method", "lora", "placement")
"""Keys of the adapting method; the baseline has its own."""
SAMPLERS = ("tpe", "gp", "random", "qmc", "cmaes", "nsgaii", "grid")
NOT_ASKED = (*INFRASTRUCTURE, "hydra")
"""Groups that say where and how a study is carried out; a search path says where choices stand."""
OWN, BASELINE = "own", "baseline"


@dataclass(frozen=True)
class Arm:
    """One space, and what is the same at all of its points."""

    name: str
    words: tuple[str, ...]
    space: Space
    equal_parameters: EqualParameters | None = None
    equal_items: int | None = None
    """Training items that every point sees, so that its batch size gives its steps."""

    def words_at(self, point: Point) -> tuple[str, ...]:
        """The overrides of a point, with the rank and the steps that its budgets give.

        Raises:
            ConfigError: If the point is no valid run.
        """
        words = (*self.words, *words_of(point))
        if self.equal_items is not None:
            steps = steps_for_items(self.equal_items, compose_run(words).training.batch_size)
            words = (*words, f"{STEPS}={steps}")
        if self.equal_parameters is None:
            return words
        r = equal_rank(compose_run(words), placement=self.equal_parameters.placement, r=self.equal_parameters.r)
        return (*words, f"lora.r={r}")

    def configs_at(self, point: Point, seeds: Sequence[int]) -> list[RunConfig]:
        """The runs of a point, one for each seed.

        Raises:
            ConfigError: If the point is no valid run.
        """
        config = compose_run(self.words_at(point))
        return [with_seed(config, seed) for seed in seeds]


@dataclass(frozen=True)
class Question:
    """Everything that two commands must agree on to be the same study, and how it is carried out."""

    name: str
    text: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    config: RunConfig
    """Of the first point: where things are written, and the settings of the study."""

    @property
    def study(self) -> StudyConfig:
        """The settings of the study."""
        return self.config.study

    @property
    def is_grid(self) -> bool:
        """Whether every point is listed and none is drawn."""
        return self.study.sampler in (None, "grid") and all(arm.space.is_discrete for arm in self.arms)

    @property
    def sampler(self) -> str:
        """The sampler that draws the points."""
        return "grid" if self.is_grid else self.study.sampler or "tpe"

    def as_data(self) -> dict[str, Any]:
        """The question alone, as plain data: what is compared when the same name is given again."""
        return question_data(
            self.arms,
            seeds=self.seeds,
            objectives=self.objectives,
            constraints=self.constraints,
            sampler=self.sampler,
            margin=self.study.margin,
        )


def question_data(
    arms: Sequence[Arm],
    *,
    seeds: Sequence[int],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    sampler: str,
    margin: float | None = None,
) -> dict[str, Any]:
    """Plain data of a question; what says where and how it is carried out is no part of it.

    The margin is: one that is chosen after the differences were seen proves nothing.
    """
    return {
        "arms": {
            arm.name: {
                "base": sorted(word for word in arm.words if _group(word) not in NOT_ASKED),
                "space": {dimension.key: dimension.as_data() for dimension in arm.space.dimensions},
                **({"equal_parameters": vars(arm.equal_parameters)} if arm.equal_parameters else {}),
                **({"equal_items": arm.equal_items} if arm.equal_items else {}),
            }
            for arm in arms
        },
        "seeds": list(seeds),
        "objectives": [f"{objective.direction} {objective.metric}" for objective in objectives],
        "constraints": list(map(str, constraints)),
        "sampler": sampler,
        **({"margin": margin} if margin is not None else {}),
    }


def build_question(words: Sequence[str]) -> Question:
    """The question that these words of a command line ask.

    Raises:
        ConfigError: With every fault found.
    """
    adopt_config_dirs(words)
    items = parse(words)
    named = [item.get_value_string() for item in items if item.key_or_group == "sweeps"]
    if len(named) > 1:
        raise ConfigError([Fault("sweeps", f"given {len(named)} times; a command carries out one study")])
    file = read_study_file(named[0]) if named else StudyFile()
    items = [item for item in items if item.key_or_group != "sweeps"]
    own, seeds = _own_arm(file, items)
    config = compose_run(own.words_at(next(own.space.corners())))
    if not seeds and not any(item.key_or_group == "seed" for item in items):
        seeds = tuple(config.study.seeds)
    seeds = seeds or (config.seed,)
    is_searched = config.study.sampler not in (None, "grid") or not own.space.is_discrete
    baseline = _baseline_arm(own, file, config, is_searched=is_searched)
    arms = (own, baseline) if baseline else (own,)
    objectives, faults = build_objectives(config.study, load_task(config.task).headline)
    constraints, more = build_constraints(config.study.constraints)
    faults += [*more, *_study_faults(config.study, arms, objectives)]
    question = Question("", _text(file, items), arms, seeds, tuple(objectives), tuple(constraints), config)
    faults += _unread_faults(question, set_values(words))
    if faults:
        raise ConfigError(faults)
    return replace(question, name=config.study.name or _made_name(question, file, items))


def _own_arm(file: StudyFile, items: Sequence[Override]) -> tuple[Arm, tuple[int, ...]]:
    """The study's own arm, the command line over the file; and the seeds that it sweeps."""
    items = list({item.key_or_group: item for item in items}.values())  # the last word about a key counts
    swept = {item.key_or_group: dimension_from(item) for item in items if item.is_sweep_override()}
    fixed = {item.key_or_group: item for item in items if not item.is_sweep_override()}
    dimensions: dict[str, Dimension] = {}
    for dimension in file.space.dimensions:
        key = _bare(dimension.key)
        if key in fixed and not fixed[key].is_delete():
            # One value is a dimension still: others may depend on it.
            dimensions[key] = replace(dimension_from(fixed.pop(key)), when=dimension.when)
        elif key in swept:
            dimensions[key] = replace(swept.pop(key), when=dimension.when)
        else:
            dimensions[key] = dimension
    dimensions |= swept
    seeds = dimensions.pop("seed", None)
    if seeds is not None and not seeds.values:
        raise ConfigError([Fault("seed", f"'{seeds.text}' is an interval; seeds are listed: seed=0,1,2")])
    from_file = [word for word in file.words if _bare(_key(word)) not in {*fixed, *dimensions}]
    words = (*from_file, *(item.input_line or "" for item in fixed.values()))
    arm = Arm(
        OWN, words, Space(tuple(dimensions.values())), file.equal_parameters, _equal_items(file, fixed, dimensions)
    )
    return arm, tuple(int(text) for text in seeds.values) if seeds is not None else ()


def _equal_items(file: StudyFile, *given: Container[str]) -> int | None:
    """The file's own, unless the command line says how many steps there are."""
    return None if any(STEPS in keys for keys in given) else file.equal_items


def _baseline_arm(own: Arm, file: StudyFile, config: RunConfig, *, is_searched: bool) -> Arm | None:
    """Full fine-tuning, or another method, over its own space; None where it is part of the study already.

    A single learning rate is not taken over, since one that suits adapters is about ten times too high for all
    weights. Swept rates are scaled by the ratio of the methods' default rates: as many tries, in its own range.
    """
    method = config.study.baseline
    if not method or config.method.name == method:
        return None
    if any(dimension.key == "method" and method in dimension.values for dimension in own.space.dimensions):
        return None
    words = [word for word in own.words if not _is_of_method(_key(word)) and _key(word) != "training.lr"]
    overridden = {_key(word) for word in file.baseline_words}
    words = [*(word for word in words if _key(word) not in overridden), *file.baseline_words, f"method={method}"]
    if file.baseline_space is not None:
        return Arm(BASELINE, tuple(words), file.baseline_space, equal_items=own.equal_items)
    space = own.space.without(lambda key: _is_of_method(_bare(key)))
    default_lr = compose_run([*words, *words_of(next(space.without(_is_rate).corners()))]).training.lr
    ratio = default_lr / default_rate(config).value
    dimensions = [_scaled(one, ratio) if _is_rate(one.key) else one for one in space.dimensions]
    if is_searched and not any(len(one.values) != 1 for one in dimensions):
        low, high = default_lr / 10, default_lr * 10
        text = f"tag(log,interval({low:g},{high:g}))"
        dimensions = [one for one in dimensions if not _is_rate(one.key)]
        dimensions.append(Dimension("training.lr", text, low=low, high=high, is_log=True))
    return Arm(BASELINE, tuple(words), Space(tuple(dimensions)), equal_items=own.equal_items)


def _scaled(rate: Dimension, ratio: float) -> Dimension:
    if rate.low is not None and not rate.values:
        low, high = rate.low * ratio, float(rate.high or 0) * ratio
        text = f"interval({low:g},{high:g})"
        return replace(rate, low=low, high=high, text=f"tag(log,{text})" if rate.is_log else text)
    values = tuple(f"{float(text) * ratio:.4g}" for text in rate.values)
    return Dimension(rate.key, ",".join(values), values, when=rate.when)


def _study_faults(study: StudyConfig, arms: Sequence[Arm], objectives: Sequence[Objective]) -> Iterator[Fault]:
    if study.sampler is not None and study.sampler not in SAMPLERS:
        near = suggest(study.sampler, SAMPLERS)
        yield Fault("study.sampler", f"no sampler '{study.sampler}'{near}; available: {', '.join(SAMPLERS)}")
    if study.sampler == "grid":
        for dimension in (one for arm in arms for one in arm.space.dimensions if not one.values):
            yield Fault("study.sampler", f"grid needs listed values, and {dimension.key} is {dimension.text}")
    if study.pruner is not None and study.pruner not in PRUNERS:
        near = suggest(study.pruner, PRUNERS)
        yield Fault("study.pruner", f"no pruner '{study.pruner}'{near}; available: {', '.join(sorted(PRUNERS))}")
    if study.pruner and not study.pruner_metric and not any(o.metric.startswith("eval/") for o in objectives):
        yield Fault("study.pruner_metric", "not set, and no objective is an evaluation; name one, eval/accuracy say")
    for key in ("n_trials", "n_jobs", "pruner_min_steps", "pruner_patience", "pruner_startup_trials"):
        if getattr(study, key) < 1:
            yield Fault(f"study.{key}", f"{getattr(study, key)} is below 1")
    if study.pruner_factor < 2:
        yield Fault("study.pruner_factor", f"{study.pruner_factor} is below 2; 3 keeps the best third at each rung")
    if study.margin is not None and not 0 < study.margin < math.inf:
        yield Fault("study.margin", f"{study.margin} is not above 0 and finite; 0.01 of an accuracy, or null for none")
    for key in ("wall_min", "device_min"):
        value = getattr(study, key)
        if value is not None and not value > 0:
            yield Fault(f"study.{key}", f"{value} is not above 0; null sets no limit")


def _unread_faults(question: Question, words: Mapping[str, str]) -> Iterator[Fault]:
    """What the command line sets and no run of the study's own arm, and no search, reads."""
    own, study = question.arms[0], question.study
    configs = []
    for point in own.space.corners() if is_judged(words) else ():
        with contextlib.suppress(ConfigError):  # what is wrong with a value is said where its runs are checked
            configs.append(compose_run(own.words_at(point)))
    yield from unread_faults(words, configs, is_sweep=True)
    yield from pruner_faults(words, study.pruner)
    if question.is_grid:
        yield from grid_faults(words)
    if "study.seeds" in words and "seed" in words:
        yield Fault(
            "study.seeds", f"seed={words['seed']} says which seeds each point is trained with; give one of them"
        )
    if "lora.r" in words and own.equal_parameters is not None:
        yield Fault("lora.r", "the study file chooses it, so that all placements have as many parameters; leave it out")


def _made_name(question: Question, file: StudyFile, items: Sequence[Override]) -> str:
    """Says what is asked, and is the same for the same command; a file as it stands has its own name."""
    digest = hashlib.sha256(json.dumps(question.as_data(), sort_keys=True).encode()).hexdigest()[:6]
    if file.name is not None:
        return f"{file.name}-{digest}" if _asked_beside(items) else file.name
    swept = [item.key_or_group.replace("/", ".") for item in items if item.is_sweep_override()]
    return "-".join([Path(question.config.model.name).name, question.config.task.name, *swept, digest])


def _text(file: StudyFile, items: Sequence[Override]) -> str:
    """The file's question, and what the command line asks otherwise, without which it might be untrue."""
    changes = _asked_beside(items)
    if not file.question or not changes:
        return file.question
    return f"{file.question} Changed on the command line: {' '.join(changes)}"


def _asked_beside(items: Sequence[Override]) -> list[str]:
    """Words of the command line that change what a study file asks."""
    return [item.input_line or "" for item in items if _group(item.key_or_group) not in NOT_ASKED]


def _is_of_method(key: str) -> bool:
    return _group(key) in METHOD_GROUPS


def _is_rate(key: str) -> bool:
    return _bare(key) == "training.lr"


def _group(word: str) -> str:
    return _bare(_key(word)).split(".")[0]


def _key(word: str) -> str:
    return word.split("=", 1)[0]


def _bare(key: str) -> str:
    return key.lstrip("+~")
