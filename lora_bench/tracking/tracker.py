"""The tracker that projects to MLflow: who may write, when a store that failed is asked again, what is said of it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from lora_bench.errors import TrackingError
from lora_bench.models.folders import is_writable
from lora_bench.rundir import RunDir
from lora_bench.tracking.base import SyncReport, Tracker
from lora_bench.tracking.mlflow import MlflowStore
from lora_bench.tracking.projector import Projector
from lora_bench.tracking.store import check_reachable, is_server, locked, read_root_id, sqlite_path, store_uri

FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 60.0
"""How long a store that failed is left alone, doubled each time, so that a controller does not wait for it."""


class MlflowTracker(Tracker):
    """Projects the runs of one root to an MLflow store."""

    def __init__(self, *, root: Path, uri: str | None = None, experiment: str = "lora_bench") -> None:
        """Opens nothing yet: MLflow is imported by the first `sync` that has something to write."""
        self._root = root
        self.uri = store_uri(uri, root)
        self._experiment = experiment
        self._projector: Projector | None = None
        self._pause_s = 0.0
        self._closed_until = 0.0
        self._problems: tuple[str, ...] = ()
        self._opening: threading.Thread | None = None

    def find_problem(self) -> str | None:
        """As `Tracker.find_problem`; a database that is not there yet is made by the first sync."""
        path = sqlite_path(self.uri)
        try:
            if path is not None and not path.exists():
                return None if is_writable(path.parent) else f"{path.parent} cannot be written by this user"
            check_reachable(self.uri)
        except (TrackingError, OSError) as err:
            return str(err)
        return None

    def prepare(self) -> None:
        """Opens the store in a thread: importing MLflow and making its tables takes a core for seconds."""
        self._opening = threading.Thread(target=self._try_to_open, daemon=True)
        self._opening.start()

    def sync(self, runs: Sequence[RunDir], *, study: str | None = None, finished: bool = False) -> SyncReport:
        """As `Tracker.sync`; with `finished` it waits up to a minute for another writer, else a second."""
        if self._projector is not None:
            runs = [run for run in runs if self._projector.has_news(run, study)]
        if not runs and not finished:
            return SyncReport()
        names = tuple(run.path.name for run in runs)
        if self._opening is not None:
            if self._opening.is_alive() and not finished:
                return SyncReport(behind=names)
            self._opening.join()
            self._opening = None
        if time.monotonic() < self._closed_until and not finished:
            return SyncReport(behind=names, problems=self._problems)
        try:
            with locked(self._root / ".mlflow.lock", wait_s=60 if finished else 1):
                report = self._open().sync(runs, study=study, finished=finished)
        except TrackingError as err:
            return self._failed(names, err)
        self._pause_s = 0.0
        return report

    def share_view(self, headlines: Sequence[str]) -> str:
        """Prepares the page for runs that are judged by these scores; returns its path on the server.

        Raises:
            TrackingError: If the store cannot be written.
        """
        with locked(self._root / ".mlflow.lock", wait_s=60):
            return self._open().set_view(headlines)

    def _try_to_open(self) -> None:
        # What goes wrong here is met again, and said, by the first sync.
        with contextlib.suppress(TrackingError), locked(self._root / ".mlflow.lock", wait_s=1):
            self._open()

    def _open(self) -> Projector:
        if self._projector is None:
            store = MlflowStore(self.uri, root=self._root, experiment=self._experiment)
            self._projector = Projector(store, root_id=read_root_id(self._root))
        elif is_server(self.uri):
            check_reachable(self.uri)
        return self._projector

    def _failed(self, names: tuple[str, ...], err: TrackingError) -> SyncReport:
        self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s or FIRST_PAUSE_S)
        self._closed_until = time.monotonic() + self._pause_s
        self._projector = None  # it is opened anew, in case the store that comes back is another one
        self._problems = (str(err),)
        return SyncReport(behind=names, problems=self._problems)
