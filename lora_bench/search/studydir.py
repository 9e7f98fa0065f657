"""The folder of a study, `<paths.root>/studies/NAME/`: what was asked, who carries it out, which trials there are.

`trials.jsonl` is written before the runs of a trial start, so that, with the run directories, it is the truth about
the study; Optuna's journal is a projection of both and can be made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import signal
import socket
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lora_bench import reading, rundir
from lora_bench.errors import RecordError, StudyError
from lora_bench.reading import damaged
from lora_bench.records import from_json
from lora_bench.redact import redact, redact_words
from lora_bench.search.hints import root_option
from lora_bench.search.question import Question
from lora_bench.shapes import is_folder_name, name_problem

REMEDY = "bring it back from a copy, or move the study's folder away; its runs stay"
TRIALS_REMEDY = "take the line out, or bring the file back from a copy"


@dataclass(frozen=True)
class TrialLine:
    """One trial as it was asked. Its state stands in the run directories, not here."""

    arm: str
    number: int
    """Within its arm; Optuna's own number."""
    point: dict[str, Any]
    words: list[str]
    """The overrides it is composed from, less the seed."""
    runs: list[str]
    """Names of its run directories, one for each seed; empty if it is no valid run."""
    error: str | None = None
    duplicate_of: int | None = None
    """The earlier trial of its arm at the same point; it then has no runs of its own."""


@dataclass(frozen=True)
class StudyDir:
    """The folder of one study. Making this object touches no disk."""

    path: Path

    @property
    def question(self) -> Path:
        """What is asked, the command that asks it and when it was first asked."""
        return self.path / "study.yaml"

    @property
    def lock(self) -> Path:
        """Held with `flock` by the controller; says who it is."""
        return self.path / "lock"

    @property
    def journal(self) -> Path:
        """Optuna's storage; absent for grids and with PostgreSQL."""
        return self.path / "journal.log"

    @property
    def trials(self) -> Path:
        """One JSON line per trial, in the order of asking."""
        return self.path / "trials.jsonl"

    @property
    def progress(self) -> Path:
        """What the controller last knew: state, counts, time taken."""
        return self.path / "progress.json"

    @property
    def runs(self) -> Path:
        """Where the run directories of this study's root are."""
        return self.path.parents[1] / "runs"

    def read_question(self) -> dict[str, Any]:
        """The content of `study.yaml`.

        Raises:
            RecordError: If it cannot be read, or holds no question.
        """
        try:
            data = reading.read_yaml(self.question, remedy=REMEDY)
        except FileNotFoundError as err:
            raise damaged(self.question, "is not there", REMEDY) from err
        if problem := _question_problem(data):
            raise damaged(self.question, f"holds no question ({problem})", REMEDY)
        return {"text": "", **data}

    def read_trials(self) -> list[TrialLine]:
        """Every trial that was asked; a torn last line is left out.

        Raises:
            RecordError: If a line is damaged.
        """
        lines, problems = self.gather_trials()
        if problems:
            raise RecordError(problems[0])
        return lines

    def gather_trials(self) -> tuple[list[TrialLine], list[str]]:
        """The trials that can be read, and a sentence about the first line that cannot and all after it."""
        lines: list[TrialLine] = []
        try:
            for data in reading.iterate_objects(self.trials, remedy=TRIALS_REMEDY):
                line = from_json(TrialLine, data)
                if wrong := [name for name in line.runs if not is_folder_name(name)]:
                    raise ValueError(f"'{wrong[0]}' names no run")
                lines.append(line)
        except RecordError as err:
            return lines, [str(err)]
        except ValueError as err:
            return lines, [str(damaged(self.trials, f"trial {len(lines)} is none ({err})", TRIALS_REMEDY))]
        return lines, []

    def append_trial(self, line: TrialLine) -> None:
        """Adds a trial, synced."""
        rundir.append_line(self.trials, vars(line))

    def record_trials(self, lines: Sequence[TrialLine]) -> None:
        """Replaces the trials on record by those of a grid, which are known at once."""
        recorded, problems = self.gather_trials()
        if problems:
            rundir.set_aside(self.trials)
        if problems or recorded != list(lines):
            rundir.write_text(self.trials, "".join(json.dumps(vars(line)) + "\n" for line in lines))

    def read_progress(self) -> dict[str, Any]:
        """The last written progress, or an empty one; what of it is not of its type is left out.

        It is written anew every few seconds and decides nothing but times, so that a damaged one is no error.
        """
        try:
            data = reading.read_json(self.progress)
        except (FileNotFoundError, RecordError):
            return {}
        return {key: value for key, value in data.items() if isinstance(value, str if key == "state" else int | float)}

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Holds the study for this process; there is one controller. Clears away what a killed one left half done.

        Raises:
            StudyError: If another living process holds it, or the folder cannot be written.
            DiskError: If the disk takes no more, or is read-only.
        """
        try:
            with rundir.disk_told(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                handle = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as err:
            problem = f"cannot be written ({err.strerror}); make it writable, or set another paths.root"
            raise StudyError(f"{self.path}: {problem}") from err
        try:
            if not rundir.lock_soon(handle):
                raise StudyError(self._held_message())
            with rundir.disk_told(self.path):
                self._clear_up(handle)
            yield
        finally:
            os.close(handle)

    def _clear_up(self, handle: int) -> None:
        """Says who holds the study, and clears away what a killed controller left half done."""
        data = redact(json.dumps(_this_process())).encode()
        os.pwrite(handle, data, 0)
        os.ftruncate(handle, len(data))
        for file in (self.trials, self.journal):
            rundir.repair_tail(file)
        for partial in self.path.glob(f"*{rundir.TEMPORARY_MARK}*"):
            partial.unlink()

    def holder(self) -> dict[str, Any] | None:
        """The living controller: `pid`, `host`, `since` and `command`; None if there is none."""
        try:
            handle = os.open(self.lock, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            unknown = {"pid": None, "host": "unknown", "since": "unknown", "command": "unknown"}
            with contextlib.suppress(RecordError, FileNotFoundError):
                said = reading.read_json(self.lock)
                return (
                    unknown
                    | {key: said[key] for key in ("host", "since", "command") if isinstance(said.get(key), str)}
                    | ({"pid": said["pid"]} if type(said.get("pid")) is int else {})
                )
            return unknown
        finally:
            os.close(handle)
        return None

    def stop_holder(self) -> int | None:
        """Asks the living controller to checkpoint its runs and stop; returns its process id.

        Raises:
            StudyError: If it runs on another machine.
        """
        holder = self.holder()
        if holder is None or holder["pid"] is None:
            return None
        if holder["host"] != socket.gethostname():
            raise StudyError(f"study {self.path.name}: its controller runs on {holder['host']}; stop it there")
        os.kill(int(holder["pid"]), signal.SIGTERM)
        return int(holder["pid"])

    def _held_message(self) -> str:
        holder = self.holder() or {}
        for _ in range(rundir.LOCK_TRIES):
            if holder.get("pid") is not None:
                break
            time.sleep(rundir.LOCK_WAIT_S)  # it has the lock, and is about to write who it is
            holder = self.holder() or {}
        return (
            f"study {self.path.name}: process {holder.get('pid')} on {holder.get('host')} has carried it out since "
            f"{holder.get('since')} ({holder.get('command')}); wait for it, or end it with "
            f"`lora-bench stop {shlex.quote(self.path.name)}{root_option(self.path.parent.parent)}`"
        )


def study_dir(root: Path, name: str) -> StudyDir:
    """The folder of the study of this name.

    Raises:
        StudyError: If the name is no name of a folder.
    """
    if problem := name_problem(name):
        raise StudyError(f"study.name: {problem}")
    return StudyDir(root / "studies" / name)


def find_study_dirs(root: Path) -> list[StudyDir]:
    """Every study below `root`, by name."""
    folders = rundir.list_folder(root / "studies")
    return [study for study in map(StudyDir, folders) if os.path.lexists(study.question)]


def settle_question(directory: StudyDir, question: Question, command: Sequence[str]) -> None:
    """Records what the study asks; a study of this name that asks something else is refused.

    Raises:
        StudyError: With every difference between the question on record and this one.
    """
    asked, study_id = question.as_data(), uuid.uuid4().hex
    command = redact_words(command)
    if os.path.lexists(directory.question):
        recorded = directory.read_question()
        study_id = recorded.get("id", study_id)
        differences = list(difference(recorded["question"], asked))
        if differences:
            lines = "\n".join(f"  {line}" for line in differences)
            raise StudyError(
                f"study {question.name}: on record with another question\n{lines}\n"
                f"give this one a name of its own (study.name=...), or move {directory.path} away"
            )
        if recorded["command"] == command and "id" in recorded:
            return
    entry = {
        "question": asked,
        "text": question.text,
        "command": command,
        "n_trials": question.study.n_trials,
        "id": study_id,
    }
    rundir.write_text(directory.question, yaml.safe_dump(entry, sort_keys=False, allow_unicode=True))


def difference(recorded: Any, asked: Any, where: str = "") -> Iterator[str]:
    """What is different between two questions, a line for each place."""
    if isinstance(recorded, Mapping) and isinstance(asked, Mapping):
        for key in dict.fromkeys([*recorded, *asked]):
            yield from difference(recorded.get(key), asked.get(key), f"{where}.{key}" if where else str(key))
    elif recorded != asked:
        was, now = ("none" if value is None else value for value in (recorded, asked))
        if isinstance(was, list) and isinstance(now, list):
            was, now = ([one for one in a if one not in b] for a, b in ((was, now), (now, was)))
        yield f"{where}: was {was}, now {now}"


def _question_problem(data: dict[str, Any]) -> str | None:
    """The first thing that a reader would stumble over."""
    question = data.get("question")
    if not isinstance(question, dict):
        return "it has no question"
    lists = {
        "command": data.get("command"),
        "question.objectives": question.get("objectives"),
        "question.constraints": question.get("constraints"),
    }
    for key, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            return f"{key} is not a list of words"
    arms = question.get("arms", {})
    if not isinstance(arms, dict) or not all(isinstance(arm, dict) for arm in arms.values()):
        return "question.arms is no group of keys"
    if not isinstance(data.get("text", ""), str) or not isinstance(data.get("id", ""), str):
        return "text or id is not text"
    objectives = [text.partition(" ") for text in question["objectives"]]
    if not objectives or not all(way in ("maximize", "minimize") and metric for way, _, metric in objectives):
        return "question.objectives are none"
    return None


def _this_process() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join(redact_words(sys.argv)),
    }
