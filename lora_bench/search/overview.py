"""What a study has found so far, read from its folder and its run directories; needs neither Optuna nor torch."""

from __future__ import annotations

import contextlib
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_bench.errors import LoraBenchError, RecordError
from lora_bench.rundir import RunDir
from lora_bench.search.edges import Arms, read_arms
from lora_bench.search.objectives import (
    Constraint,
    Objective,
    build_constraints,
    mean_metrics,
    recorded_objectives,
)
from lora_bench.search.question import BASELINE
from lora_bench.search.studydir import StudyDir, TrialLine
from lora_bench.search.trials import trial_status

DAMAGED = "damaged"


@dataclass(frozen=True)
class TrialRow:
    """One trial."""

    line: TrialLine
    status: str
    """As its runs say; running, waiting or interrupted while it has no end; damaged if a record cannot be read."""
    metrics: Mapping[str, float]
    """Means over the seeds that have a result."""
    is_feasible: bool
    """Whether it keeps the study's constraints."""
    method: str | None = None
    """What its words choose; None where they choose none and no run of its arm has begun."""

    @property
    def kind(self) -> str:
        """What trials are compared as: their method, or else the study's own or the baseline."""
        method = self.line.point.get("method", self.method)
        return str(method) if method is not None else "baseline" if self.line.arm == BASELINE else "study"

    @property
    def is_candidate(self) -> bool:
        """Whether it may be the best."""
        return self.status == "finished" and self.is_feasible


@dataclass(frozen=True)
class Overview:
    """A study at one moment."""

    name: str
    text: str
    state: str
    """running, done, stopped, or died: its controller ended without saying so."""
    holder: Mapping[str, Any] | None
    objectives: tuple[Objective, ...]
    rows: tuple[TrialRow, ...]
    progress: Mapping[str, Any]
    command: tuple[str, ...]
    runs: Path
    """Where its run directories are."""
    spaces: Arms = field(default_factory=dict)
    """Over what each arm varies its learning rate."""
    margin: float | None = None
    """Differences of the headline score below it are called equal; None asks only which is better."""
    problems: tuple[str, ...] = ()
    """A sentence about each file that is damaged."""

    @property
    def counts(self) -> Counter[str]:
        """Status -> trials."""
        return Counter(row.status for row in self.rows)

    @property
    def arms(self) -> list[str]:
        """Its arms, the study's own first."""
        return list(dict.fromkeys(row.line.arm for row in self.rows))

    def best(self, arm: str) -> TrialRow | None:
        """The best trial of an arm by the first objective, or None while none has finished."""
        return self._best(row for row in self.rows if row.line.arm == arm)

    def best_of_kind(self, kind: str) -> TrialRow | None:
        """The best trial of a kind, or None while none has finished."""
        return self._best(row for row in self.rows if row.kind == kind)

    def best_of_each_method(self) -> list[TrialRow]:
        """The best trial of each arm, and of each method where methods are varied; those that have one."""
        kinds = dict.fromkeys(row.kind for row in self.rows)
        found = map(self.best_of_kind, kinds)
        return [row for row in found if row is not None]

    def _best(self, rows: Iterable[TrialRow]) -> TrialRow | None:
        objective = self.objectives[0]
        pick = max if objective.is_maximized else min
        candidates = [row for row in rows if row.is_candidate and objective.metric in row.metrics]
        return pick(candidates, key=lambda row: row.metrics[objective.metric], default=None)

    def pareto_front(self) -> list[TrialRow]:
        """Trials of all arms that no other beats in one objective without losing in another."""
        names = [objective.metric for objective in self.objectives]
        rows = [row for row in self.rows if row.is_candidate and all(name in row.metrics for name in names)]
        return [row for row in rows if not any(_dominates(other, row, self.objectives) for other in rows)]


def read_overview(directory: StudyDir) -> Overview:
    """Reads a study. What of its trials and runs is damaged is left out, with a sentence about each.

    Raises:
        RecordError: If its question cannot be read.
    """
    recorded = directory.read_question()
    question = recorded["question"]
    constraints, _ = build_constraints(question["constraints"])
    holder, progress = directory.holder(), directory.read_progress()
    state = progress.get("state", "died")
    lines, problems = directory.gather_trials()
    methods = {line.arm: None for line in lines} | dict(_default_methods(lines, directory.runs))
    rows = [_row(line, directory.runs, constraints, methods[line.arm], problems) for line in lines]
    return Overview(
        name=directory.path.name,
        text=recorded["text"],
        state="running" if holder else "died" if state == "running" else state,
        holder=holder,
        objectives=recorded_objectives(question),
        rows=tuple(row for row in rows if row.line.duplicate_of is None),
        progress=progress,
        command=tuple(recorded["command"]),
        runs=directory.runs,
        spaces=read_arms(question),
        margin=question.get("margin"),
        problems=tuple(dict.fromkeys(problems)),
    )


def trial_name(row: TrialRow) -> str:
    """Return what a trial is called within its study: `3`, or `baseline-3`."""
    return f"{BASELINE}-{row.line.number}" if row.line.arm == BASELINE else str(row.line.number)


def repeat_command(row: TrialRow, runs: Path) -> str:
    """What trains the first run of a trial once more on this machine, beside its record, for a shell."""
    left_out = ("study.", "seed=", "again=", "executor", "processes.nodes=")
    words = [word for word in row.line.words if not word.lstrip("+").startswith(left_out)]
    try:
        seed = RunDir(runs / row.line.runs[0]).read_config()["seed"]
    except RecordError:
        seed = next((word.removeprefix("seed=") for word in row.line.words if word.startswith("seed=")), 0)
    return shlex.join(["python", "run.py", *words, f"seed={seed}", "again=2"])


def _default_methods(lines: Sequence[TrialLine], runs: Path) -> Iterator[tuple[str, str]]:
    """Each arm with the method of one of its runs, where the words of its trials leave the method to the default."""
    for arm in dict.fromkeys(line.arm for line in lines):
        words = next(line.words for line in lines if line.arm == arm)
        chosen = [word.split("=", 1)[1] for word in words if word.startswith("method=")]
        if chosen:
            yield arm, chosen[-1]
            continue
        own = (RunDir(runs / name) for line in lines if line.arm == arm for name in line.runs)
        for run in (run for run in own if run.config.exists()):
            with contextlib.suppress(LoraBenchError, KeyError, TypeError):
                yield arm, str(run.read_config()["method"]["name"])
                break


def _row(
    line: TrialLine, runs: Path, constraints: Sequence[Constraint], method: str | None, problems: list[str]
) -> TrialRow:
    if line.error is not None:
        return TrialRow(line, "failed", {}, False, method)
    members = [RunDir(runs / name) for name in line.runs]
    results = []
    for member in members:
        try:
            result = member.read_result()
        except RecordError as err:
            problems.append(str(err))
            return TrialRow(line, DAMAGED, {}, False, method)
        results += [result] if result is not None else []
    metrics = mean_metrics(results)
    status = trial_status([result.status for result in results], len(members)) or _state(members)
    kept = all(metrics.get(one.metric) is not None and one.violation(metrics[one.metric]) <= 0 for one in constraints)
    return TrialRow(line, status, metrics, kept, method)


def _state(members: Sequence[RunDir]) -> str:
    states = Counter(member.state() for member in members)
    return next((state for state in ("running", "interrupted") if states[state]), "waiting")


def _dominates(one: TrialRow, other: TrialRow, objectives: Sequence[Objective]) -> bool:
    pairs = [(objective, one.metrics[objective.metric], other.metrics[objective.metric]) for objective in objectives]
    return not any(objective.better(b, a) for objective, a, b in pairs) and any(o.better(a, b) for o, a, b in pairs)


def describe(overview: Overview) -> dict[str, Any]:
    """An overview as data for programs."""
    return {
        "name": overview.name,
        "question": overview.text,
        "state": overview.state,
        "pid": overview.holder["pid"] if overview.holder else None,
        "margin": overview.margin,
        "objectives": [vars(objective) for objective in overview.objectives],
        "progress": dict(overview.progress),
        "counts": dict(overview.counts),
        "best": {arm: _as_data(row) for arm in overview.arms if (row := overview.best(arm)) is not None},
        "front": [trial_name(row) for row in overview.pareto_front()] if len(overview.objectives) > 1 else None,
        "trials": list(map(_as_data, overview.rows)),
        "problems": list(overview.problems),
    }


def _as_data(row: TrialRow) -> dict[str, Any]:
    shown: Iterator[tuple[str, Any]] = (
        (key, vars(row.line)[key]) for key in ("arm", "number", "point", "runs", "error")
    )
    return {
        **dict(shown),
        "trial": trial_name(row),
        "method": row.kind,
        "status": row.status,
        "is_feasible": row.is_feasible,
        "metrics": dict(row.metrics),
    }
