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

from lora_bench import rundir
from lora_bench.errors import StudyError
from lora_bench.search.hints import root_option
from lora_bench.search.question import Question


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
            StudyError: If it cannot be read.
        """
        try:
            data = yaml.safe_load(self.question.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as err:
            raise StudyError(f"{self.question}: cannot be read ({err}); move the folder away") from err
        if not isinstance(data, dict) or "question" not in data:
            raise StudyError(f"{self.question}: holds no question; move the folder away")
        return data

    def read_trials(self) -> list[TrialLine]:
        """Every trial that was asked; a torn last line is left out."""
        return [TrialLine(**line) for line in rundir.read_lines(self.trials)]

    def append_trial(self, line: TrialLine) -> None:
        """Adds a trial, synced."""
        rundir.append_line(self.trials, vars(line))

    def record_trials(self, lines: Sequence[TrialLine]) -> None:
        """Replaces the trials on record by those of a grid, which are known at once."""
        if self.read_trials() != list(lines):
            rundir.write_text(self.trials, "".join(json.dumps(vars(line)) + "\n" for line in lines))

    def read_progress(self) -> dict[str, Any]:
        """The last written progress, or an empty one."""
        try:
            data = json.loads(self.progress.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Holds the study for this process; there is one controller. Clears away what a killed one left half done.

        Raises:
            StudyError: If another living process holds it, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as err:
            problem = f"cannot be written ({err.strerror}); set paths.root to a folder that can"
            raise StudyError(f"{self.path}: {problem}") from err
        try:
            if not rundir.lock_soon(handle):
                raise StudyError(self._held_message())
            data = json.dumps(_this_process()).encode()
            os.pwrite(handle, data, 0)
            os.ftruncate(handle, len(data))
            for file in (self.trials, self.journal):
                rundir.repair_tail(file)
            for partial in self.path.glob(f"*{rundir.TEMPORARY_MARK}*"):
                partial.unlink()
            yield
        finally:
            os.close(handle)

    def holder(self) -> dict[str, Any] | None:
        """The living controller: `pid`, `host`, `since` and `command`; None if there is none."""
        try:
            handle = os.open(self.lock, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with contextlib.suppress(ValueError):
                return dict(json.loads(self.lock.read_text(encoding="utf-8")))
            return {"pid": None, "host": "unknown", "since": "unknown", "command": "unknown"}
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
    if not name or name in (".", "..") or "/" in name or name.startswith("."):
        raise StudyError(f"study.name: '{name}' cannot name a folder; use letters, digits, '-', '_' and '.'")
    return StudyDir(root / "studies" / name)


def find_study_dirs(root: Path) -> list[StudyDir]:
    """Every study below `root`, by name."""
    folder = root / "studies"
    if not folder.is_dir():
        return []
    return [StudyDir(path) for path in sorted(folder.iterdir()) if (path / "study.yaml").is_file()]


def settle_question(directory: StudyDir, question: Question, command: Sequence[str]) -> None:
    """Records what the study asks; a study of this name that asks something else is refused.

    Raises:
        StudyError: With every difference between the question on record and this one.
    """
    asked, study_id = question.as_data(), uuid.uuid4().hex
    if directory.question.exists():
        recorded = directory.read_question()
        study_id = recorded.get("id", study_id)
        differences = list(difference(recorded["question"], asked))
        if differences:
            lines = "\n".join(f"  {line}" for line in differences)
            raise StudyError(
                f"study {question.name}: on record with another question\n{lines}\n"
                f"give this one a name of its own (study.name=...), or move {directory.path} away"
            )
        if recorded["command"] == list(command) and "id" in recorded:
            return
    entry = {
        "question": asked,
        "text": question.text,
        "command": list(command),
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


def _this_process() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join(sys.argv),
    }
