"""A study's question as its folder has it on record, without composing its command again.

The command may name files that have changed or are gone since; what was asked stands in `study.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from lora_bench.config.resolve import from_yaml
from lora_bench.config.schema import RunConfig
from lora_bench.errors import LoraBenchError, StudyError
from lora_bench.rundir import RunDir
from lora_bench.search.compose import compose_run
from lora_bench.search.objectives import build_constraints, recorded_objectives
from lora_bench.search.question import Arm, Question
from lora_bench.search.space import Dimension, Point, Space, space_from_data
from lora_bench.search.studydir import StudyDir, TrialLine


def recorded_question(directory: StudyDir) -> Question:
    """Return what the study asks. The settings that the record leaves out are those of its first run.

    Raises:
        StudyError: If the record cannot be read.
    """
    recorded = directory.read_question()
    try:
        question = recorded["question"]
        lines = directory.read_trials()
        arms = tuple(_arm(name, arm, lines, where=str(directory.question)) for name, arm in question["arms"].items())
        config = _own_config(directory, lines) or compose_run(_study_words(recorded["command"]))
        sampler = None if question["sampler"] == "grid" else question["sampler"]
        return Question(
            name=directory.path.name,
            text=recorded.get("text") or "",
            arms=arms,
            seeds=tuple(question["seeds"]),
            objectives=recorded_objectives(question),
            constraints=tuple(build_constraints(question["constraints"])[0]),
            config=replace(config, study=replace(config.study, sampler=sampler, name=directory.path.name)),
        )
    except (KeyError, TypeError, AttributeError, LoraBenchError) as err:
        raise StudyError(f"{directory.question}: holds no question of this version ({err}); move it away") from err


def _arm(name: str, data: Mapping[str, Any], lines: Sequence[TrialLine], *, where: str) -> Arm:
    points = [line.point for line in lines if line.arm == name]
    space = space_from_data(data["space"], where=where)
    return Arm(name, tuple(data["base"]), Space(tuple(_as_drawn(one, points) for one in space.dimensions)))


def _as_drawn(dimension: Dimension, points: Sequence[Point]) -> Dimension:
    """A range is on record by its values, as a list is; its points hold numbers, those of a list hold texts."""
    drawn = [point[dimension.key] for point in points if dimension.key in point]
    if not dimension.values or not drawn or any(isinstance(value, str) for value in drawn):
        return dimension
    numbers = [float(text) for text in dimension.values]
    if all(isinstance(value, int) for value in drawn):
        return replace(dimension, low=int(min(numbers)), high=int(max(numbers)), step=1)
    return replace(dimension, low=min(numbers), high=max(numbers))


def _own_config(directory: StudyDir, lines: Sequence[TrialLine]) -> RunConfig | None:
    """That of the first run which this study has begun; a run that it shares has the settings of another one."""
    for run in (RunDir(directory.runs / name) for line in lines for name in line.runs):
        try:
            config = from_yaml(run.config)
        except (LoraBenchError, yaml.YAMLError, OSError, ValueError, AttributeError):
            continue  # not begun yet, or damaged, which the list of runs says
        if config.study.name == directory.path.name:
            return config
    return None


def _study_words(command: Sequence[str]) -> list[str]:
    return [word for word in command if word.startswith("study.")]
