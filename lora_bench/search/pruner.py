"""Applies a study's pruning rule to its running runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lora_bench.errors import RecordError
from lora_bench.rundir import RunDir
from lora_bench.search.objectives import known_direction
from lora_bench.search.pruning import Curve, PruningRule
from lora_bench.search.question import Question
from lora_bench.search.trials import Member, Trial
from lora_bench.search.watch import pruner_metric, read_curve


class _ItemReader:
    """Finds the items of a run's evaluation."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs

    def __call__(self, name: str, step: int) -> Sequence[float] | None:
        try:
            lines = RunDir(self._runs / name).read_items()
        except RecordError:  # without its items there is no verdict, and the run goes on
            return None
        return next((line["values"] for line in lines if line["step"] == step), None)


class Pruner:
    """Knows the curves of every run of the study; asked after each new evaluation of a running one."""

    def __init__(self, question: Question) -> None:
        self.metric = pruner_metric(question)
        """The metric that is looked at; None prunes nothing."""
        self._rule: PruningRule | None = None
        self._curves: dict[str, dict[str, Curve]] = defaultdict(dict)
        """Arm -> run -> its curve. Methods are not pruned against each other: each is to give its best."""
        self._sign = 1.0
        study = question.study
        if study.pruner is not None and self.metric is not None:
            self._rule = PruningRule(
                study.pruner,
                min_steps=study.pruner_min_steps,
                factor=study.pruner_factor,
                patience=study.pruner_patience,
                startup_trials=study.pruner_startup_trials,
            )
            directions = {objective.metric: objective.direction for objective in question.objectives}
            is_maximized = directions.get(self.metric, known_direction(self.metric)) == "maximize"
            self._sign = 1.0 if is_maximized else -1.0

    def learn(self, trials: Iterable[Trial]) -> None:
        """Takes the curves of earlier runs up."""
        if self.metric is None:
            return
        for member in (member for trial in trials for member in trial.members):
            self.ended(member, read_curve(member.run_dir, self.metric))

    def reason_to_stop(self, member: Member, curve: Mapping[int, float]) -> str | None:
        """Why this run is to stop at its next evaluation; None lets it go on."""
        assert member.trial is not None, "members belong to a trial"
        if self._rule is None:
            return None
        name, curves = member.run_dir.path.name, self._curves[member.trial.arm]
        curves[name] = self._turned(curve)
        return self._rule.reason_to_stop(name, curves, _ItemReader(member.run_dir.path.parent))

    def ended(self, member: Member, curve: Mapping[int, float]) -> None:
        """Keeps the curve of a run that has ended, for the others to be compared with."""
        assert member.trial is not None, "members belong to a trial"
        if self._rule is not None and curve:
            self._curves[member.trial.arm][member.run_dir.path.name] = self._turned(curve)

    def _turned(self, curve: Mapping[int, float]) -> Curve:
        return {step: self._sign * value for step, value in curve.items()}
