"""Which runs a list or a report is of, and in which order."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from lora_bench.errors import UsageError, suggest
from lora_bench.records import RunResult
from lora_bench.report.load import Record, flat
from lora_bench.report.rows import Row, headline_score

STATUSES = ("finished", "running", "interrupted", "waiting", "diverged", "oom", "pruned", "failed")
"""As `RunDir.state` says."""


@dataclass(frozen=True)
class Selection:
    """What is asked for; what is None or empty asks for everything."""

    runs: Collection[str] | None = None
    """Names of run directories, those of a study."""
    statuses: Sequence[str] = ()
    models: Sequence[str] = ()
    methods: Sequence[str] = ()
    last: int | None = None
    sort: str | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out and the order is that of the names."""
        return self == Selection()


def select(records: Sequence[Record], selection: Selection) -> list[Record]:
    """Return the runs that are asked for, the newest kept by `last`, in the order of `sort`.

    Raises:
        UsageError: If a status or a sort key is unknown, or no run has a model or method of that name.
    """
    _check("--status", selection.statuses, STATUSES)
    for option, names, key in (("--model", selection.models, "model"), ("--method", selection.methods, "method")):
        _check(option, names, sorted({str(record.config[key]["name"]) for record in records}))
    chosen = [record for record in records if _is_chosen(record, selection)]
    if selection.last is not None:
        if selection.last < 1:
            raise UsageError(f"--last: {selection.last} is below 1")
        kept = {id(record) for record in sorted(chosen, key=began)[-selection.last :]}
        chosen = [record for record in chosen if id(record) in kept]
    return sort_records(chosen, selection.sort) if selection.sort else chosen


def sort_records(records: Sequence[Record], key: str) -> list[Record]:
    """Return the runs by a key of SORT_KEYS or of the configuration; runs without a value come last.

    Raises:
        UsageError: If there is no such key.
    """
    read, is_reversed = _sort_key(records, key)
    known = [(value, record) for record in records if (value := read(record)) is not None]
    known.sort(key=lambda pair: pair[0], reverse=is_reversed)
    return [*(record for _, record in known), *(record for record in records if read(record) is None)]


def sort_rows(rows: Sequence[Row], key: str | None) -> list[Row]:
    """Return rows of a table by the first of their runs in this order, those of the baseline's method still last.

    Raises:
        UsageError: If there is no such key.
    """
    if key is None:
        return list(rows)
    place = {
        id(record): index for index, record in enumerate(sort_records([r for row in rows for r in row.records], key))
    }
    first = {id(row): min(place[id(record)] for record in row.records) for row in rows}
    if key == "score":  # a mean over seeds, not the best of them
        scored = sorted((row for row in rows if row.quality), key=_row_score, reverse=True)
        first = {id(row): index for index, row in enumerate([*scored, *(row for row in rows if not row.quality)])}
    return sorted(rows, key=lambda row: (row.is_baseline_method, first[id(row)]))


def began(record: Record) -> float:
    """Return when a run was recorded, or began if it has no result, in seconds since the epoch."""
    if record.result is not None:
        with contextlib.suppress(ValueError):
            return datetime.datetime.fromisoformat(record.result.provenance.created_at).timestamp()
    with contextlib.suppress(OSError):
        return record.run.config.stat().st_mtime
    return 0.0


def _of_result(read: Callable[[RunResult], float | None]) -> Callable[[Record], float | None]:
    return lambda record: read(record.result) if record.result is not None else None


def _row_score(row: Row) -> float:
    assert row.quality is not None, "asked only for rows with a score"
    scores = [one for one in map(headline_score, row.finished) if one is not None]
    return row.quality.value if scores[0].higher_is_better else -row.quality.value


def _score(result: RunResult) -> float | None:
    score = result.score(result.headline)
    return None if score is None else score.value if score.higher_is_better else -score.value


SORT_KEYS: dict[str, tuple[Callable[[Record], Any], bool]] = {
    "score": (_of_result(_score), True),
    "newest": (began, True),
    "oldest": (began, False),
    "name": (lambda record: record.run.path.name, False),
    "status": (lambda record: STATUSES.index(record.state), False),
    "parameters": (_of_result(lambda result: result.sizes.trainable_parameters if result.sizes else None), False),
    "memory": (_of_result(lambda result: result.memory.peak_tensor_bytes if result.memory else None), False),
    "checkpoint": (_of_result(lambda result: result.sizes.weights_bytes if result.sizes else None), False),
    "step_time": (_of_result(lambda result: result.timing.step_median_ms if result.timing else None), False),
}
"""`--sort` -> what runs are compared by, and whether the largest comes first."""
SHORT_KEYS = {"model": "model.name", "task": "task.name", "method": "method.name", "lr": "training.lr", "r": "lora.r"}
"""Keys of the configuration that have a shorter name."""


def _sort_key(records: Sequence[Record], key: str) -> tuple[Callable[[Record], Any], bool]:
    if key in SORT_KEYS:
        return SORT_KEYS[key]
    dotted = SHORT_KEYS.get(key, key)
    configs = {id(record): flat(record.config) for record in records}
    if records and not any(dotted in config for config in configs.values()):
        accepted = [*SORT_KEYS, *SHORT_KEYS, "seed"]
        every = {*accepted, *(name for config in configs.values() for name in config)}
        raise UsageError(
            f"--sort: no key '{key}'{suggest(key, every)}; accepted: {', '.join(accepted)}, or a key of the "
            "configuration such as training.batch_size"
        )
    return lambda record: _ordered(configs[id(record)].get(dotted)), False


def _ordered(value: Any) -> tuple[bool, float, str] | None:
    """Numbers before texts, so that a key that holds both can be sorted."""
    if value is None:
        return None
    if isinstance(value, int | float):
        return False, float(value), ""
    return True, 0.0, str(value)


def _check(option: str, given: Sequence[str], accepted: Sequence[str]) -> None:
    for name in given:
        if name not in accepted:
            known = ", ".join(accepted) or "none, no run is recorded here"
            raise UsageError(f"{option}: no '{name}'{suggest(name, accepted)}; accepted: {known}")


def _is_chosen(record: Record, selection: Selection) -> bool:
    wanted = (
        (selection.statuses, record.state),
        (selection.models, str(record.config["model"]["name"])),
        (selection.methods, str(record.config["method"]["name"])),
    )
    if selection.runs is not None and record.run.path.name not in selection.runs:
        return False
    return all(not names or own in names for names, own in wanted)
