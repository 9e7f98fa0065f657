"""What each parameter of a study matters for each of its objectives, at any time and from its folder alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lora_bench.search.importance import Part, importances
from lora_bench.search.question import Question
from lora_bench.search.recorded import recorded_question
from lora_bench.search.studydir import StudyDir
from lora_bench.search.trials import Trial, trial_from_line

Influence = Mapping[str, Mapping[str, Mapping[str, Part]]]
"""Objective -> arm -> parameter -> its part; see `importances`."""


def influence(question: Question, trials: Sequence[Trial]) -> Influence:
    """Return the parts for each objective that has any."""
    found = {one.metric: importances(replace(question, objectives=(one,)), trials) for one in question.objectives}
    return {metric: arms for metric, arms in found.items() if arms}


def recorded_influence(directory: StudyDir) -> Influence:
    """Return the same for a study on record.

    Raises:
        StudyError: If its record cannot be read.
    """
    lines = directory.read_trials()
    return influence(recorded_question(directory), [trial_from_line(line, directory.runs) for line in lines])


def influence_json(found: Influence) -> dict[str, Any]:
    """Return the same as plain data."""
    return {
        metric: {arm: {key: vars(part) for key, part in parts.items()} for arm, parts in arms.items()}
        for metric, arms in found.items()
    }
