"""The family of exceptions.

    LoraBenchError
    ├── ConfigError (ValueError)         a configuration that cannot run; all of its faults at once
    ├── DataError (ValueError)           a file or text that cannot be used as asked
    ├── ModelError (RuntimeError)        weights that are missing, damaged or do not fit
    ├── CheckpointError (RuntimeError)   a checkpoint that cannot be read or does not belong to this run
    ├── RunDirError (RuntimeError)       a run directory that cannot be written or read
    │   ├── RunHeldError                 a run directory that another living process trains in
    │   ├── RecordError                  a file of a run or a study that is damaged
    │   │   └── NewerRecordError         a record that a newer version wrote
    │   └── DiskError                    a disk that is full, broken or has become read-only
    ├── MeasurementError (ValueError)    a measurement that would be meaningless
    ├── ExecutionError (RuntimeError)    a run's process that ended without a result
    ├── ArtifactError (RuntimeError)     a trained run that cannot be merged, composed or exported as asked
    ├── UsageError (ValueError)          a command line that asks for something that is not there
    ├── StudyError (RuntimeError)        a study that is held, asks another question or cannot be read
    │   └── StorageAwayError             a study's storage that does not answer at the moment
    ├── TrackingError (RuntimeError)     a tracking store that cannot be reached or written
    └── RunInterrupted                   a run that was asked to stop; its state is in a checkpoint

Every message says where, what was given, what is accepted and what to do next.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_LONG_NUMBER = re.compile(r"(?<![\w.])(\d{10})\d{31,}(?!\w)")


class LoraBenchError(Exception):
    """Anything that lora_bench raises on purpose."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a configuration: the dotted key, and what is wrong and what to do."""

    key: str
    problem: str

    def __str__(self) -> str:
        return f"{_legible(self.key)}: {_legible(self.problem, is_one_line=False)}"


class ConfigError(LoraBenchError, ValueError):
    """A configuration cannot run; carries every fault found, not only the first.

    `unfinished` is the typed configuration with these faults, for whoever looks for further ones.
    """

    def __init__(self, faults: Sequence[Fault], *, unfinished: object = None) -> None:
        self.faults = tuple(dict.fromkeys(faults))
        self.unfinished = unfinished
        super().__init__(self.faults)

    def __str__(self) -> str:
        count = len(self.faults)
        head = f"{count} problem{'s' if count != 1 else ''} in this run"
        return "\n".join([head, *(f"  {fault}" for fault in self.faults)])


class DataError(LoraBenchError, ValueError):
    """A file or a text cannot be used as asked."""


class ModelError(LoraBenchError, RuntimeError):
    """Weights are missing, damaged or do not fit the configuration."""


class CheckpointError(LoraBenchError, RuntimeError):
    """A checkpoint cannot be read, or does not belong to this run."""


class RunDirError(LoraBenchError, RuntimeError):
    """A run directory cannot be written, or what it holds cannot be read."""


class RunHeldError(RunDirError):
    """A run directory is held by another living process."""


class RecordError(RunDirError):
    """A file of a run or a study is damaged; the message names it and says what to do."""


class NewerRecordError(RecordError):
    """A record was written by a newer version of lora_bench, and is not damaged."""


class DiskError(RunDirError):
    """The disk is full, broken or has become read-only: nothing is wrong with the run, and nothing can be recorded."""


class MeasurementError(LoraBenchError, ValueError):
    """A measurement would be meaningless with these inputs."""


class ExecutionError(LoraBenchError, RuntimeError):
    """The process of a run ended without a result."""


class ArtifactError(LoraBenchError, RuntimeError):
    """A trained run cannot be merged, composed, exchanged or exported as asked; nothing was written."""


class UsageError(LoraBenchError, ValueError):
    """A command line asks for something that is not there."""


class StudyError(LoraBenchError, RuntimeError):
    """A study is held by another controller, asks another question under its name, or cannot be read."""


class StorageAwayError(StudyError):
    """The storage of a study does not answer at the moment; what it was to be told is told again later."""


class TrackingError(LoraBenchError, RuntimeError):
    """The tracking store cannot be reached or written."""


class RunInterrupted(LoraBenchError):
    """The run was asked to stop from outside; its state is in a checkpoint and the same command goes on."""


def system_text(err: OSError) -> str:
    """What the operating system refuses, about which file, in one line."""
    where = f"{err.filename}: " if err.filename is not None else ""
    return f"{where}{err.strerror or err}; see to the file or the disk, then give the same command again"


def _legible(text: str, *, is_one_line: bool = True) -> str:
    """The text with what cannot be seen in it (control characters, marks of direction) spelt out, long numbers cut."""
    kept = "" if is_one_line else "\n"
    seen = "".join(char if char.isprintable() or char in kept else ascii(char)[1:-1] for char in text)
    return cut_numbers(seen)


def cut_numbers(text: str) -> str:
    """Return the text with the first ten digits of every number of more than 40, and how many there are."""
    return _LONG_NUMBER.sub(lambda found: f"{found[1]}... ({len(found[0])} digits)", text)


def suggest(given: str, accepted: Iterable[str], *, cutoff: float = 0.6) -> str:
    """`" (did you mean 'x'?)"` for the accepted name nearest to `given`, or an empty string."""
    near = difflib.get_close_matches(given, sorted(accepted), n=1, cutoff=cutoff)
    return f" (did you mean '{near[0]}'?)" if near else ""
