"""An arm of a study in Optuna: asks for points and tells what became of them. The only door to Optuna's trials.

Optuna knows a trial by its number in the arm. What it keeps is a projection: `rebuild` makes it again from the
trials on record and their run directories.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lora_bench.errors import StudyError
from lora_bench.search.objectives import Constraint, Objective
from lora_bench.search.question import BASELINE, Arm, Question
from lora_bench.search.samplers import build_sampler
from lora_bench.search.space import Dimension, Point, Space, Value
from lora_bench.search.storage import answering
from lora_bench.search.studydir import StudyDir, TrialLine

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

UNHEALTHY = "status"
"""Name of the constraint that a diverged or out-of-memory trial violates."""
OWNER = "lora_bench_study_id"
"""Attribute of Optuna's study: the id of the study folder that it is a projection of."""
MAX_LISTED = 100_000
"""Points of a discrete space among which an unseen one is looked for."""


@dataclass(frozen=True)
class Verdict:
    """What Optuna is told of a trial."""

    status: str
    """finished, diverged, oom, pruned, failed or duplicate."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    curve: Mapping[int, float] = field(default_factory=dict)
    """Of the pruner's metric, for the dashboard; step -> value."""
    attributes: Mapping[str, Any] = field(default_factory=dict)


class OptunaArm:
    """One arm. Used by the controller only, from one process.

    Every method raises `StorageAwayError` where a server does not answer, and may then be called again.
    """

    def __init__(self, question: Question, arm: Arm, storage: BaseStorage, directory: StudyDir) -> None:
        """Opens the arm in the storage of the study in this folder, and makes it if it is not there.

        Raises:
            StudyError: If the storage has a study of this name that belongs to another folder.
        """
        self._question = question
        self._arm = arm
        self._storage = storage
        self._owner = directory.read_question()["id"]
        self._where = str(directory.journal) if question.study.storage is None else "study.storage"
        self._name = optuna_name(question.name, arm.name)
        self._study = self._open()
        self._live: dict[int, Any] = {}
        self._random = random.Random(f"{question.study.seed}:{len(self.trials())}")

    def trials(self) -> Sequence[FrozenTrial]:
        """Every trial that was asked, in order."""
        with answering(self._where):
            return self._study.get_trials(deepcopy=False)

    def ask(self, number: int) -> Point:
        """The point of the trial of this number: a new one, or what of it an earlier call did not come to draw."""
        from optuna.trial import Trial

        known = self.trials()
        with answering(self._where), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            is_begun = number < len(known) and known[number].state.name == "RUNNING"
            trial = Trial(self._study, known[number]._trial_id) if is_begun else self._study.ask()
            assert trial.number == number, "trials are on record in the order of their numbers"
            self._live[number] = trial
            return self._arm.space.draw(lambda dimension: _suggest(trial, dimension))

    def enqueue_unseen(self, seen: Iterable[Point]) -> bool:
        """Has the next `ask` give a point that was not asked yet; False if a discrete space has none left."""
        if not self._arm.space.is_discrete:
            return True
        known = {point_key(point) for point in seen}
        left = [point for _, point in zip(range(MAX_LISTED), self._arm.space.points(), strict=False)]
        left = [point for point in left if point_key(point) not in known]
        if not left:
            return False
        with answering(self._where):
            self._study.enqueue_trial(stored(self._arm.space, self._random.choice(left)))
        return True

    def tell(self, number: int, verdict: Verdict) -> None:
        """What became of a trial; a trial that was told already is left as it is."""
        from optuna.trial import Trial

        trial = self._live.pop(number, None)
        if trial is None:
            known = self.trials()[number]
            if known.state.is_finished():
                return
            trial = Trial(self._study, known._trial_id)
        with answering(self._where), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CMA-ES says each time that it leaves constraints out
            self._tell(trial, verdict)

    def _tell(self, trial: Any, verdict: Verdict) -> None:
        from optuna.trial import TrialState

        for key, value in verdict.attributes.items():
            trial.set_user_attr(key, value)
        for key, value in constraint_values(self._question.constraints, verdict).items():
            trial.set_constraint(key, value)
        if len(self._question.objectives) == 1:
            for step, value in verdict.curve.items():
                trial.report(value, step)
        state = TrialState[state_name(verdict)]
        values = told_values(self._question.objectives, verdict) if state is TrialState.COMPLETE else None
        self._study.tell(trial, values=values, state=state)

    def rebuild(self, lines: Sequence[TrialLine], verdicts: Sequence[Verdict | None]) -> None:
        """Makes the arm again from the trials on record; those without a verdict are running."""
        import optuna

        with answering(self._where):
            optuna.delete_study(study_name=self._name, storage=self._storage)
            self._study = self._open()
            self._live.clear()
            for line, verdict in zip(lines, verdicts, strict=True):
                self._study.add_trial(frozen_trial(self._question, self._arm.space, line, verdict))

    def _open(self) -> Study:
        with answering(self._where):
            study = self._create()
            study.sampler = build_sampler(
                self._question.sampler,
                # The arms draw apart: with one seed the same ranks of the two would always meet the same rates.
                seed=f"{self._question.study.seed}:{self._arm.name}",
                num_asked=len(study.get_trials(deepcopy=False)),
                space=self._arm.space,
                num_slots=self._question.study.n_jobs,
            )
        return study

    def _create(self) -> Study:
        import optuna

        existing = optuna.get_all_study_names(self._storage)
        study = optuna.create_study(
            storage=self._storage,
            study_name=self._name,
            directions=["maximize" if one.is_maximized else "minimize" for one in self._question.objectives],
            load_if_exists=True,
        )
        if self._name not in existing:
            study.set_metric_names([objective.metric for objective in self._question.objectives])
            study.set_user_attr("arm", self._arm.name)
        if study.user_attrs.get(OWNER, self._owner) != self._owner:
            # A server is shared: the study of somebody else must not be taken for a projection of ours.
            raise StudyError(
                f"study.storage: has a study '{self._name}' of another folder; give this one a name of its own "
                f"(study.name=...), or delete that one there (`optuna delete-study --study-name {self._name}`)"
            )
        study.set_user_attr(OWNER, self._owner)
        return study


def frozen_trial(question: Question, space: Space, line: TrialLine, verdict: Verdict | None) -> FrozenTrial:
    """A trial on record as Optuna would have it; without a verdict it is running."""
    from optuna.trial import TrialState, create_trial

    dimensions = {one.key: one for one in space.dimensions if one.key in line.point}
    common: dict[str, Any] = {
        "params": stored(space, line.point),
        "distributions": {key: _distribution(one) for key, one in dimensions.items()},
    }
    if verdict is None:
        return create_trial(state=TrialState.RUNNING, **common)
    state = TrialState[state_name(verdict)]
    constraints = constraint_values(question.constraints, verdict)
    values = told_values(question.objectives, verdict) if state is TrialState.COMPLETE else None
    if state is TrialState.PRUNED and verdict.curve and len(question.objectives) == 1:
        values = [verdict.curve[max(verdict.curve)]]  # as Optuna does when it is told of one
    return create_trial(
        state=state,
        values=values,
        user_attrs=dict(verdict.attributes),
        system_attrs={f"constraints:{key}": value for key, value in constraints.items()},
        intermediate_values=dict(verdict.curve) if len(question.objectives) == 1 else {},
        **common,
    )


def optuna_name(study: str, arm: str) -> str:
    """The name of an arm in Optuna's storage."""
    return f"{study}-{BASELINE}" if arm == BASELINE else study


def state_name(verdict: Verdict) -> str:
    """Optuna's state: results complete a trial, diverged and out-of-memory ones too, so that the sampler learns."""
    if verdict.status in ("failed", "duplicate"):
        return "FAIL"
    return "PRUNED" if verdict.status == "pruned" else "COMPLETE"


def told_values(objectives: Sequence[Objective], verdict: Verdict) -> list[float]:
    """The objectives; the worst value for each that a diverged or out-of-memory trial has none of.

    A diverged trial may have a score from before; it is not told, since nobody could have the weights that it had.
    """
    if verdict.status in ("diverged", "oom"):
        return [objective.worst for objective in objectives]
    return [verdict.metrics.get(objective.metric, objective.worst) for objective in objectives]


def constraint_values(constraints: Sequence[Constraint], verdict: Verdict) -> dict[str, float]:
    """Above 0 is violated. A constraint whose metric was never measured counts as violated."""
    if verdict.status in ("failed", "duplicate", "pruned"):
        return {}
    values = {UNHEALTHY: 1.0 if verdict.status in ("diverged", "oom") else 0.0}
    for constraint in constraints:
        value = verdict.metrics.get(constraint.metric)
        values[str(constraint)] = 1.0 if value is None else constraint.violation(value)
    return values


def point_key(point: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The same for the same point, drawn or read."""
    return tuple(sorted((key, str(value)) for key, value in point.items()))


def stored(space: Space, point: Mapping[str, Value]) -> dict[str, Any]:
    """A point as Optuna holds it: a number where the dimension is a range."""
    numeric = {one.key: one for one in space.dimensions if one.low is not None}
    return {
        key: (int(value) if numeric[key].is_int else float(value)) if key in numeric else value
        for key, value in point.items()
    }


def _suggest(trial: Any, dimension: Dimension) -> Value:
    low, high, is_log = dimension.low, dimension.high, dimension.is_log
    value: Value
    if low is None or high is None:
        value = trial.suggest_categorical(dimension.key, dimension.values)
    elif dimension.is_int:
        value = trial.suggest_int(dimension.key, low, high, log=is_log, step=1 if is_log else dimension.step or 1)
    else:
        value = trial.suggest_float(dimension.key, low, high, log=is_log, step=None if is_log else dimension.step)
    return value


def _distribution(dimension: Dimension) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    low, high, is_log = dimension.low, dimension.high, dimension.is_log
    if low is None or high is None:
        return CategoricalDistribution(dimension.values)
    if dimension.is_int:
        return IntDistribution(int(low), int(high), log=is_log, step=1 if is_log else int(dimension.step or 1))
    return FloatDistribution(low, high, log=is_log, step=None if is_log else dimension.step)
