"""Run directories as a report reads them: configuration, state and result, without torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lora_bench.errors import RunDirError
from lora_bench.records import RunResult
from lora_bench.rundir import RunDir


@dataclass(frozen=True)
class Record:
    """One run that has begun."""

    run: RunDir
    state: str
    """As `RunDir.state` says."""
    config: dict[str, Any]
    result: RunResult | None

    @property
    def seed(self) -> int:
        """The run's own seed."""
        return int(self.config["seed"])


def load_records(runs: Iterable[RunDir]) -> tuple[list[Record], list[str]]:
    """The runs that can be read, and a sentence about each that cannot."""
    records, problems = [], []
    for run in runs:
        try:
            result = run.read_result()
            records.append(Record(run, result.status if result else run.state(), run.read_config(), result))
            run.check_status()
        except RunDirError as err:
            problems.append(str(err))
    return records, problems


def read_predictions(record: Record) -> Iterator[dict[str, Any]]:
    """The evaluated items in the order of the split; none if the run stored none.

    Raises:
        RecordError: If the file is damaged.
    """
    yield from record.run.read_predictions()


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings by dotted key, as a user types them."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        name: leaf
        for key, entry in value.items()
        for name, leaf in flat(entry, f"{prefix}.{key}" if prefix else str(key)).items()
    }
