"""A tracker that keeps the Optuna study to look at up to date, beside the tracker that the configuration names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lora_bench.errors import StudyError
from lora_bench.rundir import RunDir
from lora_bench.tracking import SyncReport, Tracker

if TYPE_CHECKING:
    from lora_bench.search.optuna_view import OptunaView


class MirroringTracker(Tracker):
    """Does what another tracker does, and projects the study to Optuna each time."""

    def __init__(self, tracker: Tracker, view: OptunaView) -> None:
        self._tracker = tracker
        self._view = view

    def prepare(self) -> None:
        """As the other tracker."""
        self._tracker.prepare()

    def sync(self, runs: Sequence[RunDir], *, study: str | None = None, finished: bool = False) -> SyncReport:
        """As the other tracker; an Optuna study that stays behind is a problem, which the next call mends.

        Raises:
            DiskError: If the journal cannot be written.
        """
        report = self._tracker.sync(runs, study=study, finished=finished)
        try:
            self._view.sync()
        except StudyError as err:
            return replace(report, problems=(*report.problems, str(err)))
        return report
