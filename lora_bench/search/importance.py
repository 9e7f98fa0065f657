"""Which parameters of a study matter: the part of the first objective's variation that each explains."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from lora_bench.search.asking import judge
from lora_bench.search.question import Arm, Question
from lora_bench.search.study import Verdict, frozen_trial
from lora_bench.search.studydir import TrialLine
from lora_bench.search.trials import Trial

FEWEST = 4
"""Finished trials below which nothing is said."""

Finished = Sequence[tuple[TrialLine, Verdict]]


def importances(question: Question, trials: Sequence[Trial]) -> dict[str, dict[str, float]]:
    """Arm -> parameter -> its part, the largest first; no arm with one parameter or too few finished trials.

    In a grid the part is eta squared, the variance between the means at each value of the parameter over the whole
    variance; what the parameters do together is in none of them. In a search, whose points are not balanced, it is
    Optuna's PED-ANOVA (arXiv:2304.10255): what matters for getting among the best tenth.
    """
    found = {}
    for arm in (arm for arm in question.arms if len(arm.space.dimensions) > 1):
        judged = [(trial.as_line(), judge(trial, question)) for trial in trials if trial.arm == arm.name]
        finished = [(line, verdict) for line, verdict in judged if verdict is not None and verdict.status == "finished"]
        if len(finished) >= FEWEST:
            parts = _of_grid(question, finished) if question.is_grid else _of_search(question, arm, finished)
            found[arm.name] = dict(sorted(parts.items(), key=lambda item: -item[1]))
    return {name: parts for name, parts in found.items() if parts}


def _of_grid(question: Question, finished: Finished) -> dict[str, float]:
    metric = question.objectives[0].metric
    rows = [(line.point, verdict.metrics[metric]) for line, verdict in finished]
    keys = dict.fromkeys(key for point, _ in rows for key in point)
    parts = {key: eta_squared([(point[key], value) for point, value in rows if key in point]) for key in keys}
    return {key: part for key, part in parts.items() if part is not None}


def eta_squared(pairs: Sequence[tuple[Any, float]]) -> float | None:
    """Of pairs of group and value: the variance between groups over the whole one, in [0, 1]; None if that is 0."""
    groups: dict[Any, list[float]] = defaultdict(list)
    for group, value in pairs:
        groups[group].append(value)
    middle = fmean(value for _, value in pairs)
    whole = sum((value - middle) ** 2 for _, value in pairs)
    between = sum(len(values) * (fmean(values) - middle) ** 2 for values in groups.values())
    return between / whole if whole > 0 else None


def _of_search(question: Question, arm: Arm, finished: Finished) -> Mapping[str, float]:
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        is_maximized = question.objectives[0].is_maximized
        study = optuna.create_study(direction="maximize" if is_maximized else "minimize")
        for line, verdict in finished:
            frozen = frozen_trial(question, arm.space, line, verdict)
            frozen.values = frozen.values[:1]
            study.add_trial(frozen)
        try:
            return dict(optuna.importance.get_param_importances(study))
        except (ValueError, RuntimeError):  # too few different values
            return {}
