"""What `optuna-dashboard` shows of a study: every trial of every arm in one Optuna study, with the question as note.

A grid asks nothing of Optuna, and a search keeps its arms in studies of their own, since a sampler must not learn from
the baseline's trials. This study is for looking alone: a projection of the trials on record and their run directories,
brought up to date by the controller while it runs and by `lora-bench study NAME --optuna` at any other time.

The arms share their keys here, so that they stand on one axis: the method is a parameter as well, and what is a number
in every arm is one.
"""

from __future__ import annotations

import datetime
import functools
import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lora_bench.errors import StudyError
from lora_bench.markdown import plain
from lora_bench.records import RunResult
from lora_bench.search.asking import judge
from lora_bench.search.question import BASELINE, Arm, Question
from lora_bench.search.space import Dimension, Space, Value, as_text
from lora_bench.search.storage import answering
from lora_bench.search.study import OWNER, Verdict, frozen_trial, optuna_name
from lora_bench.search.studydir import StudyDir, TrialLine
from lora_bench.search.trials import trial_from_line
from lora_bench.search.watch import read_curve

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

METHOD = "method"
LOG_RATIO = 10
"""Largest to smallest of listed numbers from which on their axis is logarithmic."""
NOTE_VERSION, NOTE_PART = "dashboard:note_ver", "dashboard:note_str:"
"""Attributes in which optuna-dashboard keeps a note (optuna_dashboard 0.21, `_note.py`)."""
NOTE_CHARACTERS = 2045
"""Of one part; what its column of a relational store holds."""


def view_name(question: Question) -> str:
    """Return the name of the study to look at: the study's own, unless a sampler has that one for its own arm."""
    return question.name if question.is_grid or len(question.arms) == 1 else f"{question.name}-all"


class OptunaView:
    """The study to look at. Used by one process at a time, the one that holds the study."""

    def __init__(self, question: Question, directory: StudyDir, open_storage: Callable[[], BaseStorage]) -> None:
        """Opens nothing yet: a grid needs Optuna for this alone."""
        self._question = question
        self._directory = directory
        self._open_storage = open_storage
        self._where = str(directory.journal) if question.study.storage is None else "study.storage"
        self._owner = directory.read_question().get("id")
        self._study: Study | None = None

    @functools.cached_property
    def _storage(self) -> BaseStorage:
        return self._open_storage()

    def sync(self) -> int:
        """Bring the study up to what is on disk now; returns the number of its trials.

        Raises:
            StorageAwayError: If a server does not answer.
            StudyError: If it cannot be opened, or has a study of this name that belongs to another folder.
            DiskError: If the journal cannot be written.
        """
        with answering(self._where):
            for arm in self._question.arms:
                self._annotate(optuna_name(self._question.name, arm.name))
            if view_name(self._question) == self._question.name and not self._question.is_grid:
                return len(self._directory.read_trials())  # the sampler's own study shows everything
            return self._project()

    def _project(self) -> int:
        lines = self._directory.read_trials()
        begun = [self._is_begun(line) for line in lines]
        lines = lines[: max((index + 1 for index, is_begun in enumerate(begun) if is_begun), default=0)]
        axes = shared_axes(self._question, lines)
        is_fresh = self._study is None
        study = self._study = self._study or self._open()
        known = study.get_trials(deepcopy=False)
        if is_fresh and not self._agrees(known, lines, axes):
            study = self._study = self._reopen()
            known = []
        for index, line in enumerate(lines):
            if index < len(known) and known[index].state.is_finished():
                continue
            trial = self._trial(line, axes)
            if index >= len(known):
                study.add_trial(trial)
            elif trial.state != known[index].state:
                self._move_on(known[index]._trial_id, trial)
        return len(lines)

    def _agrees(self, known: Sequence[FrozenTrial], lines: Sequence[TrialLine], axes: Axes) -> bool:
        """Whether what is there could have come from these trials; one that was tried again is no longer as told."""
        if len(known) > len(lines):
            return False
        trials = (self._trial(line, axes) for line in lines)
        return all(
            one.params == other.params and (not one.state.is_finished() or _told(one) == _told(other))
            for one, other in zip(known, trials, strict=False)
        )

    def _is_begun(self, line: TrialLine) -> bool:
        runs = trial_from_line(line, self._directory.runs).members
        return not runs or any(member.run_dir.config.exists() for member in runs)

    def _trial(self, line: TrialLine, axes: Axes) -> FrozenTrial:
        from optuna.trial import TrialState

        trial = trial_from_line(line, self._directory.runs)
        verdict = judge(trial, self._question)
        if verdict is not None:
            curve = self._curve(line) or verdict.curve
            verdict = Verdict(verdict.status, verdict.metrics, curve, {**_address(line), **verdict.attributes})
        frozen = frozen_trial(self._question, Space(), replace(line, point={}), verdict)
        frozen.params, frozen.distributions = axes.place(line)
        if verdict is None:
            frozen.state = TrialState.RUNNING if self._is_begun(line) else TrialState.WAITING
            frozen.user_attrs = _address(line)
            frozen.datetime_start = None if frozen.state is TrialState.WAITING else frozen.datetime_start
            return frozen
        frozen.datetime_start, frozen.datetime_complete = _span(trial.results(), frozen)
        return frozen

    def _curve(self, line: TrialLine) -> dict[int, float]:
        """The first objective at each evaluation of the first run, where evaluations have it."""
        metric = self._question.objectives[0].metric
        if len(self._question.objectives) > 1 or not metric.startswith("eval/") or not line.runs:
            return {}
        return read_curve(trial_from_line(line, self._directory.runs).members[0].run_dir, metric)

    def _move_on(self, trial_id: int, now: FrozenTrial) -> None:
        from optuna.trial import TrialState

        if now.state is TrialState.RUNNING:
            self._storage.set_trial_state_values(trial_id, now.state)
            return
        for key, value in now.user_attrs.items():
            self._storage.set_trial_user_attr(trial_id, key, value)
        for key, value in now.system_attrs.items():
            self._storage.set_trial_system_attr(trial_id, key, value)
        for step, value in now.intermediate_values.items():
            self._storage.set_trial_intermediate_value(trial_id, step, value)
        self._storage.set_trial_state_values(trial_id, now.state, now.values)

    def _open(self) -> Study:
        import optuna

        name, owner = view_name(self._question), self._owner
        study = optuna.create_study(
            storage=self._storage,
            study_name=name,
            sampler=optuna.samplers.RandomSampler(),
            directions=["maximize" if one.is_maximized else "minimize" for one in self._question.objectives],
            load_if_exists=True,
        )
        if study.user_attrs.get(OWNER, owner) != owner:
            raise StudyError(
                f"{self._where}: has a study '{name}' of another folder; delete that one there "
                f"(`optuna delete-study --study-name {name}`), or give this one a name of its own (study.name=...)"
            )
        if OWNER not in study.user_attrs:
            study.set_metric_names([objective.metric for objective in self._question.objectives])
            study.set_user_attr(OWNER, owner)
        self._annotate(name)
        return study

    def _reopen(self) -> Study:
        import optuna

        optuna.delete_study(study_name=view_name(self._question), storage=self._storage)
        return self._open()

    def _annotate(self, name: str) -> None:
        """Write the question as the note of a study that is there and has another one."""
        import optuna

        if name not in optuna.get_all_study_names(self._storage):
            return
        study_id = self._storage.get_study_id_from_name(name)
        if self._storage.get_study_user_attrs(study_id).get(OWNER) != self._owner:
            return  # a server is shared
        attributes = self._storage.get_study_system_attrs(study_id)
        parts = _note_parts(study_note(self._question, command=self._directory.read_question()["command"]))
        known = {key: text for key, text in attributes.items() if key.startswith(NOTE_PART) and text}
        if NOTE_VERSION in attributes and known != parts:
            return  # somebody has written a note of their own in the dashboard
        if known == parts:
            return
        self._storage.set_study_system_attr(study_id, NOTE_VERSION, 1)
        for key, text in parts.items():
            self._storage.set_study_system_attr(study_id, key, text)


class Axes:
    """One distribution for each key, whichever arm varies it."""

    def __init__(self, distributions: Mapping[str, BaseDistribution], methods: Mapping[str, str]) -> None:
        """`methods` has the method of each arm whose points do not say it."""
        self._distributions = distributions
        self._methods = methods

    def place(self, line: TrialLine) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """Return the parameters of a trial and their distributions."""
        from optuna.distributions import CategoricalDistribution, IntDistribution

        point: dict[str, Value] = _bare_point(line)
        if line.arm in self._methods:
            point = {METHOD: self._methods[line.arm], **point}
        params: dict[str, Any] = {}
        for key, value in point.items():
            axis = self._distributions[key]
            if isinstance(axis, CategoricalDistribution):
                params[key] = as_text(value)
            else:
                params[key] = int(float(value)) if isinstance(axis, IntDistribution) else float(value)
        return params, {key: self._distributions[key] for key in params}


def shared_axes(question: Question, lines: Sequence[TrialLine]) -> Axes:
    """Return the axes of a study's arms, wide enough for every trial on record."""
    arms = question.arms
    values: dict[str, list[Value]] = {}
    logarithmic: set[str] = set()
    for arm in arms:
        for dimension in arm.space.dimensions:
            key = _bare(dimension.key)
            values.setdefault(key, []).extend(_ends(dimension))
            logarithmic |= {key} if dimension.is_log else set()
    for line in lines:
        for key, value in _bare_point(line).items():
            values.setdefault(key, []).append(value)
    methods = {}
    if len(arms) > 1:
        for arm in arms:
            if all(_bare(dimension.key) != METHOD for dimension in arm.space.dimensions):
                methods[arm.name] = _method_of(arm, question)
        values[METHOD] = [*values.get(METHOD, []), *methods.values()]
    return Axes({key: _axis(found, is_log=key in logarithmic) for key, found in values.items()}, methods)


def study_note(question: Question, *, command: Sequence[str]) -> str:
    """Return what is asked, in Markdown."""
    return "\n".join(_note_lines(question, command))


def _note_lines(question: Question, command: Sequence[str]) -> Iterator[str]:
    yield f"**{plain(question.text) or f'What is best over {_space_text(question.arms[0])}?'}**"
    yield ""
    for objective in question.objectives:
        yield f"- {objective.direction} `{objective.metric}`"
    for constraint in question.constraints:
        yield f"- only where `{constraint}`"
    seeds = ", ".join(map(str, question.seeds))
    yield f"- values are means over the seeds {seeds}" if len(question.seeds) > 1 else f"- seed {seeds}"
    for arm in question.arms:
        what = f"the baseline, {_method_of(arm, question)}" if arm.name == BASELINE else "the study's own trials"
        yield f"- {what}: {_space_text(arm) or 'one setting'}"
    if view_name(question) != question.name:
        yield f"- `{view_name(question)}` has the trials of both; the other studies are the samplers' own"
    yield ""
    yield f"`python run.py -m {shlex.join(word for word in command if '://' not in word)}`"


def _space_text(arm: Arm) -> str:
    return "; ".join(f"`{_bare(one.key)}` {', '.join(one.values) or one.text}" for one in arm.space.dimensions)


def _note_parts(text: str) -> dict[str, str]:
    starts = range(0, len(text), NOTE_CHARACTERS)
    return {f"{NOTE_PART}{index}": text[start : start + NOTE_CHARACTERS] for index, start in enumerate(starts)}


def _address(line: TrialLine) -> dict[str, Any]:
    """What `lora-bench` knows the trial by."""
    number = str(line.number) if line.arm != BASELINE else f"{BASELINE}-{line.number}"
    return {"trial": number, "runs": line.runs}


def _told(trial: FrozenTrial) -> tuple[Any, ...]:
    return trial.state, trial.values, trial.user_attrs.get("status"), trial.user_attrs.get("runs")


def _span(results: Sequence[RunResult], frozen: FrozenTrial) -> tuple[Any, Any]:
    """When the runs of a trial began and ended, as their records say; now where they say nothing."""
    ends, starts = [], []
    for result in results:
        try:
            end = datetime.datetime.fromisoformat(result.provenance.created_at)
        except ValueError:
            continue
        timing = result.timing
        seconds = timing.load_s + timing.train_s + timing.eval_s if timing else 0.0
        end = end.astimezone().replace(tzinfo=None)  # as Optuna's own are
        ends.append(end)
        starts.append(end - datetime.timedelta(seconds=seconds))
    if not ends:
        return frozen.datetime_start, frozen.datetime_complete
    return min(starts), max(ends)


def _ends(dimension: Dimension) -> tuple[Value, ...]:
    return dimension.values or dimension.ends


def _axis(values: Sequence[Value], *, is_log: bool) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    numbers = [_number(value) for value in values]
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers):
        return CategoricalDistribution(tuple(dict.fromkeys(map(as_text, values))))
    low, high = min(known), max(known)
    is_log = low > 0 and (is_log or high / low >= LOG_RATIO)
    if all(isinstance(number, int) for number in known):
        return IntDistribution(int(low), int(high), log=is_log)
    return FloatDistribution(float(low), float(high), log=is_log)


def _number(value: Value) -> int | float | None:
    """A number, whole where it is written so; None for anything else."""
    if not isinstance(value, str):
        return value
    try:
        return int(value)
    except ValueError:
        pass
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _method_of(arm: Arm, question: Question) -> str:
    chosen = (word.split("=", 1)[1] for word in arm.words if _bare(word).startswith(f"{METHOD}="))
    return next(chosen, question.config.method.name)


def _bare_point(line: TrialLine) -> dict[str, Value]:
    return {_bare(key): value for key, value in line.point.items()}


def _bare(key: str) -> str:
    return key.lstrip("+~")
