"""A search: asks Optuna for points, records each trial before its runs start, and tells what became of it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lora_bench.errors import ConfigError, StorageAwayError
from lora_bench.naming import run_dir_for
from lora_bench.preflight import check_run
from lora_bench.records import RunResult
from lora_bench.redact import redact_words
from lora_bench.search.objectives import mean_metrics
from lora_bench.search.question import Arm, Question
from lora_bench.search.space import Point
from lora_bench.search.study import OptunaArm, Verdict, point_key
from lora_bench.search.studydir import StudyDir, TrialLine
from lora_bench.search.trials import Member, Trial, trial_from_line, trial_status
from lora_bench.search.watch import pruner_metric, read_curve

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

MAX_REPEATS = 3
"""Times in a row that a sampler may give a point that was asked before; then an unseen one is drawn at random."""
AWAY_S = 2.0
"""Seconds for which a storage that did not answer is left alone."""


class SearchSupply:
    """Gives the controller trials until every arm has finished as many as were asked for."""

    spares_seeds = True

    def __init__(
        self,
        question: Question,
        directory: StudyDir,
        root: Path,
        *,
        optuna_arms: dict[str, OptunaArm],
        is_spent: Callable[[], bool] = lambda: False,
    ) -> None:
        self._question = question
        self._directory = directory
        self._root = root
        self._is_spent = is_spent
        self._sides = [_Side(arm, optuna_arms[arm.name]) for arm in question.arms]
        self._trials: list[Trial] = []
        self._waiting: list[Trial] = []
        self._untold: list[Trial] = []
        self._away_until_s = 0.0
        self.problem: str | None = None
        self.notes: list[str] = []
        lines = directory.read_trials()
        for side in self._sides:
            self._restore(side, [line for line in lines if line.arm == side.arm.name])
        self._num_recorded = sum(member.has_ended for trial in self._trials for member in trial.members)

    def trials(self) -> list[Trial]:
        """Every trial that was asked, by arm."""
        return self._trials

    def next(self) -> Trial | None:
        """A trial that was begun, or a new one of the arm that is furthest behind."""
        if self._waiting:
            return self._waiting.pop(0)
        if time.monotonic() < self._away_until_s:
            return None
        try:
            self._tell_all()
            return self._next_asked()
        except StorageAwayError as err:
            self._went_away(err)
            return None

    def _next_asked(self) -> Trial | None:
        while True:
            open_sides = [side for side in self._sides if side.num_counted < self._question.study.n_trials]
            open_sides = [side for side in open_sides if not side.is_exhausted]
            if not open_sides or self._is_spent():
                return None
            side = min(open_sides, key=lambda side: side.num_counted)
            trial = self._ask(side)
            if trial is not None and trial.members:
                return trial

    def ended(self, trial: Trial) -> None:
        """Tells Optuna, once all that there will be of the trial is on disk; later, if its storage is away."""
        self._untold.append(trial)
        if time.monotonic() < self._away_until_s:
            return
        try:
            self._tell_all()
        except StorageAwayError as err:
            self._went_away(err)

    def _tell_all(self) -> None:
        while self._untold:
            trial = self._untold[0]
            side = next(side for side in self._sides if side.arm.name == trial.arm)
            verdict = judge(trial, self._question)
            assert verdict is not None, "a trial that has ended has a status"
            side.optuna.tell(trial.number, verdict)
            self._untold.pop(0)
        self.problem = None

    def _went_away(self, err: StorageAwayError) -> None:
        self.problem = str(err)
        self._away_until_s = time.monotonic() + AWAY_S

    def num_runs(self) -> int:
        """Runs of all trials that are asked for; an arm whose points are all done has no more."""
        num_seeds = len(self._question.seeds)
        return num_seeds * sum(
            side.num_counted if side.is_exhausted else max(side.num_counted, self._question.study.n_trials)
            for side in self._sides
        )

    def num_recorded(self) -> int:
        """Runs that had ended before this command."""
        return self._num_recorded

    def _restore(self, side: _Side, lines: Sequence[TrialLine]) -> None:
        """Takes up what an earlier controller left; the run directories decide where Optuna says otherwise."""
        trials = [trial_from_line(line, self._directory.runs) for line in lines]
        verdicts = [judge(trial, self._question) for trial in trials]
        known = side.optuna.trials()
        if not agrees(lines, verdicts, known):
            self.notes.append(f"{side.arm.name}: Optuna's study made again from {len(lines)} trials and their runs")
            side.optuna.rebuild(lines, verdicts)
            known = side.optuna.trials()
        for trial, verdict in zip(trials, verdicts, strict=True):
            self._adopt(side, trial)
            if verdict is None:
                self._compose_missing(side.arm, trial)
                self._waiting.append(trial)
            elif not known[trial.number].state.is_finished():
                self.ended(trial)
        for number in range(len(lines), len(known)):
            if known[number].state.name == "RUNNING":  # asked, and not yet on record when the controller died
                trial = self._build(side, side.optuna.ask(number))
                if trial.members:
                    self._waiting.append(trial)

    def _compose_missing(self, arm: Arm, trial: Trial) -> None:
        """Configurations of runs that were on record, but had no directory yet when the controller died."""
        if all(member.run_dir.config.exists() for member in trial.members):
            return
        for member, config in zip(trial.members, arm.configs_at(trial.point, self._question.seeds), strict=True):
            member.config = config

    def _adopt(self, side: _Side, trial: Trial) -> None:
        self._trials.append(trial)
        side.num_asked += 1
        if trial.duplicate_of is None:
            side.seen[point_key(trial.point)] = trial.number
            side.num_counted += 1
        for member in trial.members:
            result = member.read_result()
            if result is not None:
                member.state = result.status
        if trial_status([m.state for m in trial.members if m.state != "waiting"], len(trial.members)) is not None:
            for member in trial.members:
                member.state = "spared" if member.state == "waiting" else member.state

    def _ask(self, side: _Side) -> Trial | None:
        if side.num_repeats >= MAX_REPEATS:
            side.is_exhausted = not side.optuna.enqueue_unseen([dict(key) for key in side.seen])
            side.num_repeats = 0
            if side.is_exhausted:
                return None
        return self._build(side, side.optuna.ask(side.num_asked))

    def _build(self, side: _Side, point: Point) -> Trial:
        """The next trial, on record. Without runs it has ended already: a repeated point, or no valid run."""
        earlier = side.seen.get(point_key(point))
        words: tuple[str, ...] = ()
        members: list[Member] = []
        error = None
        if earlier is None:
            try:
                words = side.arm.words_at(point)
                members = self._members(side.arm, point)
            except ConfigError as err:
                error = "; ".join(map(str, err.faults))
        trial = Trial(side.arm.name, side.num_asked, point, words, members, error, earlier)
        self._directory.append_trial(trial.as_line())
        self._adopt(side, trial)
        side.num_repeats = side.num_repeats + 1 if earlier is not None else 0
        if not members or all(member.has_ended for member in members):
            # Nothing to run: no valid run, a repeated point, or runs that another study has trained already.
            self.ended(trial)
        return trial

    def _members(self, arm: Arm, point: Point) -> list[Member]:
        configs = arm.configs_at(point, self._question.seeds)
        check_run(configs[0])
        return [Member(run_dir_for(config, self._root), config) for config in configs]


class _Side:
    """An arm while it is searched."""

    def __init__(self, arm: Arm, optuna: OptunaArm) -> None:
        self.arm = arm
        self.optuna = optuna
        self.seen: dict[tuple[tuple[str, str], ...], int] = {}
        """Every point that was asked -> its trial."""
        self.num_asked = 0
        """Trials on record; the number of the next one."""
        self.num_counted = 0
        """Trials that are asked for or done, repeated points apart."""
        self.num_repeats = 0
        self.is_exhausted = False


def judge(trial: Trial, question: Question) -> Verdict | None:
    """What the run directories say of a trial, with the curve of its first run; None while it goes on."""
    if trial.duplicate_of is not None:
        return Verdict("duplicate", attributes={"duplicate_of": trial.duplicate_of})
    if trial.error is not None:
        return Verdict("failed", attributes={"error": trial.error})
    results = trial.results()
    status = trial_status([result.status for result in results], len(trial.members))
    if status is None:
        return None
    metrics, pruned_by = mean_metrics(results), pruner_metric(question)
    curve = read_curve(trial.members[0].run_dir, pruned_by) if pruned_by else {}
    attributes = {
        "status": status,
        "runs": [member.run_dir.path.name for member in trial.members],
        "command": shlex.join(["python", "run.py", *redact_words(trial.words)]),
        **({"error": error} if (error := _first_error(results)) else {}),
    }
    missing = [objective.metric for objective in question.objectives if objective.metric not in metrics]
    if status == "finished" and missing:
        return Verdict("failed", attributes=attributes | {"error": f"its result has no {', '.join(missing)}"})
    return Verdict(status, metrics, curve, attributes)


def agrees(lines: Sequence[TrialLine], verdicts: Sequence[Verdict | None], known: Sequence[FrozenTrial]) -> bool:
    """Whether Optuna has every trial on record, at the same point, and none finished whose runs are not."""
    if len(known) < len(lines):
        return False
    for line, verdict, trial in zip(lines, verdicts, known, strict=False):
        if point_key(trial.params) != point_key(line.point) or (verdict is None and trial.state.is_finished()):
            return False
    return True


def _first_error(results: Sequence[RunResult]) -> str | None:
    return next((result.error for result in results if result.error), None)
