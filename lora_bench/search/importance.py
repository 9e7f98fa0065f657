"""Which parameters of a study matter: the part of the first objective's variation that each explains."""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lora_bench.search.asking import judge
from lora_bench.search.question import Arm, Question
from lora_bench.search.study import Verdict, frozen_trial
from lora_bench.search.studydir import TrialLine
from lora_bench.search.trials import Trial

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

FEWEST = 4
"""Finished trials below which nothing is said."""

NUM_SHUFFLES = 20
"""Of a search's values, for what chance gives."""

Finished = Sequence[tuple[TrialLine, Verdict]]


@dataclass(frozen=True)
class Part:
    """What a parameter explains."""

    share: float
    """0 where it explains no more than chance; it may be just below."""
    by_chance: float = 0.0
    """The mean share where it explains nothing."""


def importances(question: Question, trials: Sequence[Trial]) -> dict[str, dict[str, Part]]:
    """Arm -> parameter -> its part, the largest first; no arm with one parameter or too few finished trials.

    In a grid the part is omega squared (`omega_squared`): what a parameter adds to the others, with what chance adds
    taken off, so that its mean is 0 where the parameter does nothing. In a search, whose points are not balanced, it is
    Optuna's PED-ANOVA (arXiv:2304.10255): what matters for getting among the best tenth. Its parts sum to 1, whatever
    there is to explain, so that what the same parameters get of shuffled values stands beside them.
    """
    found = {}
    for arm in (arm for arm in question.arms if len(arm.space.dimensions) > 1):
        judged = [(trial.as_line(), judge(trial, question)) for trial in trials if trial.arm == arm.name]
        finished = [(line, verdict) for line, verdict in judged if verdict is not None and verdict.status == "finished"]
        if len(finished) >= FEWEST:
            parts = _of_grid(question, finished) if question.is_grid else _of_search(question, arm, finished)
            found[arm.name] = dict(sorted(parts.items(), key=lambda item: -item[1].share))
    return {name: parts for name, parts in found.items() if parts}


def _of_grid(question: Question, finished: Finished) -> dict[str, Part]:
    metric = question.objectives[0].metric
    values = [verdict.metrics[metric] for _, verdict in finished]
    return {key: Part(share) for key, share in omega_squared([line.point for line, _ in finished], values).items()}


def omega_squared(points: Sequence[Mapping[str, Any]], values: Sequence[float]) -> dict[str, float]:
    """Return each key's part of the variance of the values, near 0 or just below it where the key does nothing.

    (SS_key - df_key MS_rest) / (SS_total + MS_rest), of a linear model with the main effects of all keys (Olejnik &
    Algina 2003, Psychological Methods 8:434). SS_key is what the model loses without the key, so that points need not
    be balanced; what keys do together counts as rest. Eta squared, SS_key / SS_total, has the mean df_key / (n - 1)
    where a key does nothing: 24 methods in 72 trials look like a third of everything.

    A key that is absent at some points has "absent" as a value more. Keys without a degree of freedom are left out;
    so are all where nothing is left for the rest, or the values are equal.
    """
    keys = list(dict.fromkeys(key for point in points for key in point))
    columns = {key: _indicators([repr(point.get(key)) for point in points]) for key in keys}
    observed = np.array(values) - np.mean(values)
    total, (rest, rank) = float((observed**2).sum()), _residual(list(columns.values()), observed)
    freedom = len(values) - rank
    if freedom < 1 or total <= 0:
        return {}
    mean_rest = rest / freedom
    parts = {}
    for key in keys:
        without, less = _residual([columns[other] for other in keys if other != key], observed)
        if rank > less:
            parts[key] = (without - rest - (rank - less) * mean_rest) / (total + mean_rest)
    return parts


def _indicators(texts: Sequence[str]) -> NDArray[np.float64]:
    """One column for each value that occurs."""
    return np.array([[float(text == value) for value in sorted(set(texts))] for text in texts])


def _residual(columns: Sequence[NDArray[np.float64]], observed: NDArray[np.float64]) -> tuple[float, int]:
    """Sum of squares that a linear model with these columns and a constant leaves, and its rank."""
    design = np.hstack([np.ones((len(observed), 1)), *columns])
    solution, _, rank, _ = np.linalg.lstsq(design, observed)
    return float(((observed - design @ solution) ** 2).sum()), int(rank)


def _of_search(question: Question, arm: Arm, finished: Finished) -> dict[str, Part]:
    frozen = [frozen_trial(question, arm.space, line, verdict) for line, verdict in finished]
    values = [trial.values[0] for trial in frozen]
    is_maximized = question.objectives[0].is_maximized
    shares = _ped_anova(frozen, values, is_maximized=is_maximized)
    rng = random.Random(0)
    shuffled = [
        _ped_anova(frozen, rng.sample(values, len(values)), is_maximized=is_maximized) for _ in range(NUM_SHUFFLES)
    ]
    return {key: Part(share, fmean(other.get(key, 0.0) for other in shuffled)) for key, share in shares.items()}


def _ped_anova(trials: Sequence[FrozenTrial], values: Sequence[float], *, is_maximized: bool) -> Mapping[str, float]:
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(direction="maximize" if is_maximized else "minimize")
        for trial, value in zip(trials, values, strict=True):
            trial.values = [value]
            study.add_trial(trial)
        try:
            return dict(optuna.importance.get_param_importances(study))
        except (ValueError, RuntimeError):  # too few different values
            return {}
