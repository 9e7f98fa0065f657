"""The time that a study has taken, over every start of its command, and whether its budget is spent."""

from __future__ import annotations

import time

from lora_bench import rundir
from lora_bench.config.schema import StudyConfig
from lora_bench.search.studydir import StudyDir


class Clock:
    """Counts on from what `progress.json` says. Time between two commands does not count."""

    def __init__(self, study: StudyConfig, directory: StudyDir) -> None:
        self._study = study
        recorded = directory.read_progress()
        self._before_s = float(recorded.get("wall_s", 0))
        self._device_s = float(recorded.get("device_s", 0))
        self._start_s = time.monotonic()

    @property
    def wall_s(self) -> float:
        """Seconds in which a controller was at work."""
        return self._before_s + time.monotonic() - self._start_s

    def add_run(self, seconds: float) -> None:
        """Adds the time that a run has held its slot."""
        self._device_s += seconds

    def is_spent(self) -> bool:
        """Whether no further trial is to be begun; those that run are not stopped."""
        wall_min, device_min = self._study.wall_min, self._study.device_min
        is_late = wall_min is not None and self.wall_s >= 60 * wall_min
        return is_late or (device_min is not None and self._device_s >= 60 * device_min)

    def note(self, directory: StudyDir, state: str, *, num_done: int, num_runs: int) -> None:
        """Writes how far the study is, for other commands to show."""
        progress = {"state": state, "num_done": num_done, "num_runs": num_runs}
        times = {"wall_s": round(self.wall_s, 1), "device_s": round(self._device_s, 1), "updated_at": time.time()}
        rundir.write_json(directory.progress, progress | times)
