"""Makes the projections of a study again from its trials on record and their run directories."""

from __future__ import annotations

from collections.abc import Sequence

from lora_bench.preflight import root_folder
from lora_bench.rundir import RunDir
from lora_bench.search.asking import agrees, judge
from lora_bench.search.optuna_view import OptunaView
from lora_bench.search.question import Question, build_question
from lora_bench.search.recorded import recorded_question
from lora_bench.search.storage import open_storage
from lora_bench.search.study import OptunaArm
from lora_bench.search.studydir import StudyDir, settle_question
from lora_bench.search.trials import trial_from_line
from lora_bench.tracking import load_tracker


def rebuild(directory: StudyDir, command: Sequence[str]) -> tuple[int, tuple[str, ...]]:
    """Optuna's study anew, and the tracker brought up to date; returns the trials, and what stayed behind.

    Raises:
        StudyError: If a controller carries the study out, or the command asks something else than is on record.
    """
    question = build_question(command)
    with directory.hold():
        settle_question(directory, question, directory.read_question()["command"])
        _project(directory, question, is_anew=True)
        lines = directory.read_trials()
        runs = [RunDir(directory.runs / name) for line in lines for name in line.runs]
        tracker = load_tracker(question.config.tracking, root=root_folder(question.config))
        report = tracker.sync([run for run in runs if run.config.exists()], study=question.name, finished=True)
    return len(lines), report.problems


def refresh_optuna(directory: StudyDir) -> Question:
    """Bring Optuna's part of a study up to what is on disk; returns the question on record.

    Raises:
        StudyError: If a controller carries the study out, or its record cannot be read.
    """
    with directory.hold():
        question = recorded_question(directory)
        _project(directory, question, is_anew=False)
    return question


def _project(directory: StudyDir, question: Question, *, is_anew: bool) -> None:
    storage = open_storage(question.study.storage, directory.journal)
    for arm in question.arms if not question.is_grid else ():
        optuna_arm = OptunaArm(question, arm, storage, directory)
        lines = [line for line in directory.read_trials() if line.arm == arm.name]
        verdicts = [judge(trial_from_line(line, directory.runs), question) for line in lines]
        if is_anew or not agrees(lines, verdicts, optuna_arm.trials()):
            optuna_arm.rebuild(lines, verdicts)
            continue
        for line, verdict in zip(lines, verdicts, strict=True):
            if verdict is not None:
                optuna_arm.tell(line.number, verdict)
    OptunaView(question, directory, lambda: storage).sync()
