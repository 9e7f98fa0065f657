"""Follows the run directories of running runs: new evaluations for the pruner, and signs of life."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lora_bench.errors import RecordError
from lora_bench.reading import parse_object
from lora_bench.rundir import RunDir
from lora_bench.shapes import metrics_problem

if TYPE_CHECKING:
    from lora_bench.search.question import Question


class Watch:
    """Follows one run from its start; `look` is called often and reads only what is new."""

    def __init__(self, run_dir: RunDir, metric: str | None) -> None:
        """Follows `metric`, a name of metrics.jsonl; with None there are signs of life alone."""
        self._run_dir = run_dir
        self._metric = metric
        self._offset = 0
        self._seen: tuple[int, ...] = ()
        self._start_s = self._alive_s = time.monotonic()
        self.curve: dict[int, float] = {}
        """Step -> value of the metric."""

    @property
    def age_s(self) -> float:
        """Seconds since the run was started."""
        return time.monotonic() - self._start_s

    @property
    def silent_s(self) -> float:
        """Seconds since its files last changed."""
        return time.monotonic() - self._alive_s

    def rest(self) -> None:
        """The run has not begun: its silence up to now does not count."""
        self._alive_s = time.monotonic()

    def look(self) -> bool:
        """Reads on; whether there is a new evaluation."""
        now = tuple(map(_change_of, (self._run_dir.metrics, self._run_dir.status)))
        if now == self._seen:
            return False
        self._seen, self._alive_s = now, time.monotonic()
        return self._metric is not None and self._read(self._metric)

    def _read(self, metric: str) -> bool:
        try:
            with open(self._run_dir.metrics, "rb") as file:
                file.seek(self._offset)
                text = file.read()
        except OSError:
            return False
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        before = len(self.curve)
        for line in whole.splitlines():
            # A damaged line stops no study; the tracker and the report say which one it is.
            with contextlib.suppress(RecordError):
                data = parse_object(line, self._run_dir.metrics)
                if metrics_problem(data) is None and (value := data["metrics"].get(metric)) is not None:
                    self.curve.setdefault(data["step"], float(value))
        return len(self.curve) > before


def read_curve(run_dir: RunDir, metric: str) -> dict[int, float]:
    """The metric at each evaluation of a run, by step; none of a file that is damaged."""
    try:
        lines = run_dir.read_metrics()
    except RecordError:
        return {}
    return {line["step"]: line["metrics"][metric] for line in lines if line["metrics"].get(metric) is not None}


def pruner_metric(question: Question) -> str | None:
    """The metric that the study's pruner looks at; None if nothing is pruned."""
    if question.study.pruner is None:
        return None
    evaluations = (o.metric for o in question.objectives if o.metric.startswith("eval/"))
    return question.study.pruner_metric or next(evaluations, None)


def _change_of(path: Path) -> int:
    """Changes whenever the file does."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
