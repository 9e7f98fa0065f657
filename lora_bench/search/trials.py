"""Trials and their runs as the controller sees them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lora_bench import reading, rundir
from lora_bench.config.resolve import from_yaml, to_yaml
from lora_bench.config.schema import RunConfig
from lora_bench.errors import NewerRecordError, RecordError
from lora_bench.records import STATUSES, RunResult
from lora_bench.redact import redact, redact_words
from lora_bench.rundir import RunDir
from lora_bench.search.space import Point
from lora_bench.search.studydir import TrialLine

ENDED = STATUSES
"""A trial has the worst of its runs."""


@dataclass
class Member:
    """One run of a trial."""

    run_dir: RunDir
    config: RunConfig | None = None
    """None until it is needed, for a trial that an earlier command asked."""
    state: str = "waiting"
    """waiting, elsewhere (another process runs it), running, stopping, interrupted, spared, or its result's status."""
    num_deaths: int = 0
    """Tries that ended without a result, in this command."""
    damage: str = ""
    """What was wrong with its record; told when it is trained again."""
    handle: int | None = field(default=None, repr=False)
    trial: Trial | None = field(default=None, repr=False)

    @property
    def has_ended(self) -> bool:
        """Whether this command will not start it again."""
        return self.state in ENDED or self.state in ("interrupted", "spared")

    def read_result(self) -> RunResult | None:
        """Its record, or None; also while that is damaged: the run's own process moves it aside and trains again.

        Raises:
            NewerRecordError: If a newer version wrote it.
        """
        try:
            result = self.run_dir.read_result()
        except NewerRecordError:
            raise
        except RecordError as err:
            self.damage = str(err)
            return None
        return result

    def load_config(self) -> RunConfig:
        """Its configuration, read from its directory if it was begun by an earlier command."""
        if self.config is None:
            self.config = from_yaml(self.run_dir.config)
        return self.config

    def write_config(self, study_name: str) -> None:
        """Makes the directory, with the configuration that its process will read.

        One that was begun and not finished takes this command's infrastructure: another cache, another store. The
        study's name goes in as well, so that a tracking store that is lost can be made again with its groups.
        """
        config = self.load_config()
        self.config = dataclasses.replace(config, study=dataclasses.replace(config.study, name=study_name))
        text = redact(to_yaml(self.config))
        if not self._has_config(text):
            rundir.write_text(self.run_dir.config, text)

    def _has_config(self, text: str) -> bool:
        try:
            return reading.read_text(self.run_dir.config) == text
        except FileNotFoundError:
            return False
        except RecordError as err:
            self.damage = self.damage or str(err)
            rundir.set_aside(self.run_dir.config)
            return False


@dataclass
class Trial:
    """One point of the study, with a run for each seed."""

    arm: str
    number: int
    point: Point
    words: tuple[str, ...]
    members: list[Member]
    error: str | None = None
    duplicate_of: int | None = None

    def __post_init__(self) -> None:
        for member in self.members:
            member.trial = self

    @property
    def has_ended(self) -> bool:
        """Whether none of its runs will be started again."""
        return all(member.has_ended for member in self.members)

    def results(self) -> list[RunResult]:
        """Of its runs, as far as there are any."""
        found = (member.read_result() for member in self.members)
        return [result for result in found if result is not None]

    def as_line(self) -> TrialLine:
        """What is recorded before its runs start."""
        names = [member.run_dir.path.name for member in self.members]
        return TrialLine(
            self.arm, self.number, dict(self.point), redact_words(self.words), names, self.error, self.duplicate_of
        )


def trial_from_line(line: TrialLine, runs: Path) -> Trial:
    """The trial that was recorded; reads nothing of its runs yet."""
    members = [Member(RunDir(runs / name)) for name in line.runs]
    return Trial(line.arm, line.number, line.point, tuple(line.words), members, line.error, line.duplicate_of)


def trial_status(statuses: Sequence[str], num_runs: int) -> str | None:
    """The status of a trial with these results of its runs; None while one is missing that could still change it.

    A bad end of one seed ends the trial: its other seeds need not be trained.
    """
    if not statuses:
        return None
    worst = max(statuses, key=ENDED.index)
    return worst if worst != "finished" or len(statuses) == num_runs else None


class Supply(Protocol):
    """Where the controller gets trials from: a grid that is listed, or a search that asks."""

    spares_seeds: bool
    """Whether a bad end of one seed spares the others of its trial."""
    problem: str | None
    """Why it can neither give trials nor take their ends at the moment; None where it can."""

    def trials(self) -> list[Trial]:
        """Every trial so far, those of earlier commands too."""

    def next(self) -> Trial | None:
        """A trial to carry out now; None if there is no more, or if there is a `problem`."""

    def ended(self, trial: Trial) -> None:
        """Called once when a trial has ended, unless it was interrupted."""

    def num_runs(self) -> int:
        """Runs that the study has when it is done, as far as can be said."""

    def num_recorded(self) -> int:
        """Runs that had ended before this command."""
