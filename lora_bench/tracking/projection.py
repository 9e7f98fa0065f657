"""A run directory as parameters, points, tags and times: what any tracker shows. Pure reading, no store."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_bench.config.resolve import plain_digest
from lora_bench.config.schema import INFRASTRUCTURE
from lora_bench.errors import RunDirError
from lora_bench.markdown import plain
from lora_bench.reading import damaged, parse_object, read_bytes
from lora_bench.records import RunResult
from lora_bench.rundir import LINES_REMEDY, RunDir
from lora_bench.shapes import metrics_problem
from lora_bench.tracking.names import config_metrics, result_metrics

SOURCE_TAGS = {"mlflow.source.name": "run.py", "mlflow.source.type": "LOCAL"}
"""What MLflow shows in its column "Source"."""
NOTE_TAG = "mlflow.note.content"
"""What MLflow shows as the description of a run."""


@dataclass(frozen=True)
class Point:
    """One value of one metric."""

    key: str
    value: float
    timestamp_ms: int
    step: int


@dataclass(frozen=True)
class Curve:
    """What `metrics.jsonl` holds: its whole lines, and the points of each."""

    raw: list[bytes]
    points_by_line: list[list[Point]]

    def points(self, *, skip: int = 0) -> list[Point]:
        """The points of the lines after the first `skip`, in order."""
        return [point for points in self.points_by_line[skip:] for point in points]

    def digest(self, num_lines: int) -> str:
        """Of the first lines, so that a file which was cut and written anew is noticed."""
        return hashlib.sha256(b"".join(self.raw[:num_lines])).hexdigest()[:16]


@dataclass(frozen=True)
class Projection:
    """All that is known of a run at one moment."""

    run: RunDir
    title: str
    """For people: what tells runs apart comes first, because a page shows the first twenty letters."""
    state: str
    """As `RunDir.state` says."""
    study: str | None
    """The study that its configuration names."""
    params: dict[str, str]
    """The configuration, flat, without what says where and how the run was carried out."""
    tags: dict[str, str]
    """What one groups and filters by, and a sentence that stands beside the run."""
    curve: Curve
    started_ms: int
    """The earliest trace of the run; does not change while the run goes on."""
    ended_ms: int
    """The last trace of the run; file times are no trace, because copying changes them."""
    final_points: list[Point]
    """The numbers of the result, less those that the curve has at its last step."""
    result: RunResult | None


def read_projection(run: RunDir) -> Projection:
    """Reads a directory.

    Raises:
        RunDirError: If one of its files cannot be read.
    """
    state = run.state()
    result = run.read_result()  # before the curve: a run that has its result has all of its lines
    config, status = run.read_config(), run.read_status()
    try:
        curve = _read_curve(run)
        started_ms = _started_ms(run, curve)
        ended_ms = max([started_ms, int(1000 * status.get("updated_at", 0)), *_timestamps(curve)])
        return Projection(
            run=run,
            title=_title(config),
            state=result.status if result else state,
            study=(config.get("study") or {}).get("name"),
            params=dict(_flat({key: value for key, value in config.items() if key not in INFRASTRUCTURE})),
            tags=_tags(config, result.status if result else state, result),
            curve=curve,
            started_ms=started_ms,
            ended_ms=ended_ms,
            final_points=_final_points(config, result, curve, (started_ms, ended_ms)) if result else [],
            result=result,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        raise RunDirError(f"{run.path}: not written by this version ({err!r}); move the folder away") from err


def prediction_table(run: RunDir) -> dict[str, Any] | None:
    """The predictions as columns and rows, the form in which MLflow shows a table; None without predictions."""
    items = run.read_predictions()
    if not items:
        return None
    columns = list(dict.fromkeys(key for item in items for key in item))
    return {"columns": columns, "data": [[item.get(column) for column in columns] for item in items]}


def _read_curve(run: RunDir) -> Curve:
    """Each step of a metric once.

    A run that is resumed from a checkpoint tells some steps again. The first telling stands: it may be in a store
    already, where the same step at another time would be a second point.
    """
    try:
        data = read_bytes(run.metrics)
    except FileNotFoundError:
        return Curve([], [])
    raw = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
    seen: set[tuple[str, int]] = set()
    points_by_line = []
    for number, line in enumerate(raw, start=1):
        points = [point for point in _line_points(line, run.metrics, number) if (point.key, point.step) not in seen]
        seen.update((point.key, point.step) for point in points)
        points_by_line.append(points)
    return Curve(raw, points_by_line)


def _line_points(line: bytes, path: Path, number: int) -> Iterator[Point]:
    data = parse_object(line, path, line=number, remedy=LINES_REMEDY)
    if problem := metrics_problem(data):
        raise damaged(path, f"line {number} {problem}", LINES_REMEDY)
    for key, value in data["metrics"].items():
        yield Point(key, math.nan if value is None else float(value), int(data["timestamp_ms"]), int(data["step"]))


def _timestamps(curve: Curve) -> list[int]:
    return [point.timestamp_ms for point in curve.points()]


def _started_ms(run: RunDir, curve: Curve) -> int:
    """The lock is made when a run first begins, the configuration earlier. A copy is younger than its first line."""
    begun = run.lock if run.lock.exists() else run.config
    return min([int(begun.stat().st_mtime * 1000), *_timestamps(curve)])


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _flat(entry, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value if isinstance(value, str) else json.dumps(value)


def _title(config: dict[str, Any]) -> str:
    rank = f"r={config['lora']['r']} {config['placement']['name']}" if config.get("lora") else ""
    words = [config["method"]["name"], rank, f"s{config['seed']}", config["model"]["name"], config["task"]["name"]]
    return " ".join(filter(None, words))


def _tags(config: dict[str, Any], state: str, result: RunResult | None) -> dict[str, str]:
    tags = {
        "status": state,
        "config_digest": result.config_digest if result else plain_digest(config),
        "model": str(config["model"]["name"]),
        "task": str(config["task"]["name"]),
        "method": str(config["method"]["name"]),
        "seed": str(config["seed"]),
        **SOURCE_TAGS,
    }
    if result is None:
        return tags
    tags |= {"hardware": result.provenance.hardware, NOTE_TAG: plain(_sentence(result))}
    if result.provenance.commit:
        tags |= {"commit": result.provenance.commit, "mlflow.source.git.commit": result.provenance.commit}
    return tags


def _sentence(result: RunResult) -> str:
    score = result.score(result.headline)
    if score is None:
        return f"{result.method} on {result.task}: {result.status}" + (f", {result.error}" if result.error else "")
    interval = score.interval_text(".4g")
    return f"{result.method} on {result.task}: {score.name} {score.value:.4g} {interval} over {score.num_items} items"


def _final_points(config: dict[str, Any], result: RunResult, curve: Curve, span_ms: tuple[int, int]) -> list[Point]:
    """A number that has a curve ends it; the others stand at step 0, which MLflow draws as bars side by side.

    A failed run may be tried again, so it gets only what the next try will not change.
    """
    started_ms, ended_ms = span_ms
    knobs = [Point(key, value, started_ms, 0) for key, value in config_metrics(config).items()]
    if result.status == "failed":
        return knobs
    told = {(point.key, point.step) for point in curve.points()}
    keys = {key for key, _ in told}
    numbers = result_metrics(result).items()
    points = [Point(key, value, ended_ms, result.steps if key in keys else 0) for key, value in numbers]
    return knobs + [point for point in points if (point.key, point.step) not in told]
