"""Writes run directories into an open MLflow store: each of them exactly once, whatever was written before.

How far a run has come is kept in MLflow itself, as tags that are written after what they speak of:

    lora_bench.synced_lines    lines of metrics.jsonl whose points are in the store
    lora_bench.synced_digest   of those lines; another digest means that the file was cut and written on
    lora_bench.synced_result   set when result, artifacts and end are in the store; nothing is read after that,
                               except of a failed run, which may be tried again in its directory

A process that dies between two calls leaves at most points that are sent again with their own timestamps, which
MLflow drops.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from lora_bench.errors import RunDirError
from lora_bench.records import RunResult
from lora_bench.rundir import RunDir, directory_bytes
from lora_bench.tracking.base import SyncReport
from lora_bench.tracking.mlflow import MlflowStore, StoredRun
from lora_bench.tracking.page import page_path, shared_view
from lora_bench.tracking.projection import NOTE_TAG, SOURCE_TAGS, Point, Projection, prediction_table, read_projection

ROOT_TAG = "lora_bench.root"
NAME_TAG = "lora_bench.run_dir"
STUDY_TAG = "lora_bench.study"
LINES_TAG = "lora_bench.synced_lines"
DIGEST_TAG = "lora_bench.synced_digest"
RESULT_TAG = "lora_bench.synced_result"
PARENT_TAG = "mlflow.parentRunId"

STATUSES = {"finished": "FINISHED", "pruned": "KILLED", "interrupted": "KILLED", "running": "RUNNING"}
"""State of a run -> MLflow's word; every other one is FAILED, and the tag `status` has the state itself."""

PREDICTIONS = "predictions.json"
TABLE_TAGS = {"mlflow.loggedArtifacts": json.dumps([{"path": PREDICTIONS, "type": "table"}])}
"""Tells MLflow to show the file as a table."""

MAX_WEIGHTS_BYTES = 64 * 2**20
"""Larger weights (full fine-tuning) stay in the run directory alone."""


class Projector:
    """The runs of one root in one store. Used by one process at a time, which holds the root's lock."""

    def __init__(self, store: MlflowStore, *, root_id: str) -> None:
        """Reads and writes nothing yet."""
        self._store = store
        self._root_id = root_id
        self._runs: dict[str, StoredRun] = {}
        self._studies: dict[str, StoredRun] = {}
        self._is_loaded = False
        self._compared: set[str] = set()
        self._seen: dict[tuple[str, str | None], tuple[object, ...]] = {}

    def has_news(self, run: RunDir, study: str | None) -> bool:
        """Whether a directory looks different from when it was last written; opens no file of it."""
        return self._seen.get((run.path.name, study)) != _fingerprint(run)

    def sync(self, runs: Sequence[RunDir], *, study: str | None, finished: bool) -> SyncReport:
        """As `Tracker.sync`.

        Raises:
            TrackingError: If the store fails; what was written until then stays.
        """
        self._is_loaded = False
        num_written, unreadable, problems = 0, [], []
        for run in runs:
            try:
                num_written += self._sync_run(run, study)
            except RunDirError as err:
                unreadable.append(run.path.name)
                problems.append(str(err))
        self._sync_studies(study, finished=finished)
        return SyncReport(num_written, tuple(unreadable), tuple(problems))

    def set_view(self, headlines: Sequence[str]) -> str:
        """As `MlflowTracker.share_view`."""
        self._store.set_view(shared_view(headlines))
        return page_path(self._store.experiment_id)

    def _sync_run(self, run: RunDir, study: str | None) -> bool:
        name = run.path.name
        fingerprint = _fingerprint(run)  # before reading: what is added meanwhile is news to the next call
        stored = self._find(self._runs, name)
        if stored is not None and (stored.is_deleted or self._is_settled(stored, study)):
            self._seen[name, study] = fingerprint
            return False
        projection = read_projection(run)
        is_written = projection.state != "waiting" and self._write(projection, stored, study)
        self._seen[name, study] = fingerprint
        return is_written

    def _find(self, members: dict[str, StoredRun], name: str) -> StoredRun | None:
        """From memory, else from the store, which is asked once a sync. Of two with one name the older stands."""
        if name not in members and not self._is_loaded:
            self._is_loaded = True
            for stored in self._store.find(ROOT_TAG, self._root_id):
                if NAME_TAG in stored.tags:
                    self._runs.setdefault(stored.tags[NAME_TAG], stored)
                elif STUDY_TAG in stored.tags:
                    self._studies.setdefault(stored.tags[STUDY_TAG], stored)
        return members.get(name)

    def _is_settled(self, stored: StoredRun, study: str | None) -> bool:
        if stored.tags.get(RESULT_TAG, "failed") == "failed":
            return False
        parent = self._find(self._studies, study) if study else None
        return study is None or (parent is not None and stored.tags.get(PARENT_TAG) == parent.run_id)

    def _write(self, projection: Projection, stored: StoredRun | None, study: str | None) -> bool:
        parent_tags = self._parent_tags(projection, stored, study)
        if stored is None:
            name = projection.run.path.name
            identity = {ROOT_TAG: self._root_id, NAME_TAG: name}
            stored = self._store.create(
                projection.title, started_ms=projection.started_ms, tags=identity | projection.tags | parent_tags
            )
            self._runs[name] = stored
            self._compared.add(stored.run_id)
        if stored.tags.get(RESULT_TAG) == projection.state:
            return self._store.write(stored, tags=parent_tags)
        num_lines = len(projection.curve.raw)
        marks = {LINES_TAG: str(num_lines), DIGEST_TAG: projection.curve.digest(num_lines)}
        params = {} if LINES_TAG in stored.tags else projection.params
        points = self._new_points(projection, stored)
        if projection.result is not None:
            marks |= self._write_end(projection, stored, projection.result)
            points += projection.final_points
            marks[RESULT_TAG] = projection.result.status
        elif stored.status != (status := STATUSES.get(projection.state, "FAILED")):
            ended_ms = None if status == "RUNNING" else projection.ended_ms
            self._store.set_status(stored, status, ended_ms=ended_ms)
        return self._store.write(stored, params=params, points=points, tags=projection.tags | parent_tags | marks)

    def _new_points(self, projection: Projection, stored: StoredRun) -> list[Point]:
        """Those that the marks do not vouch for; on first sight of a run, those that the store does not show."""
        curve = projection.curve
        num_lines = int(stored.tags.get(LINES_TAG, 0))
        is_same_file = not num_lines or curve.digest(num_lines) == stored.tags.get(DIGEST_TAG)
        if is_same_file and (stored.run_id in self._compared or num_lines == len(curve.raw)):
            return curve.points(skip=num_lines)
        self._compared.add(stored.run_id)
        points = curve.points()
        there = self._store.history(stored, sorted({point.key for point in points}))
        return [point for point in points if (point.key, point.step) not in there]

    def _write_end(self, projection: Projection, stored: StoredRun, result: RunResult) -> dict[str, str]:
        """Dataset, artifacts and end; each may be there already from a process that died, and is replaced.

        Returns the tags that go with them.
        """
        run = projection.run
        if result.provenance.data_digest:
            self._store.set_dataset(stored, name=result.task, digest=result.provenance.data_digest)
        for path in (run.config, run.result):
            self._store.upload(stored, path)
        table = prediction_table(run)
        if table is not None:
            self._store.upload_table(stored, table, PREDICTIONS)
        if run.weights.is_dir() and directory_bytes(run.weights) <= MAX_WEIGHTS_BYTES:
            self._store.upload(stored, run.weights, folder="weights")
        status = STATUSES.get(result.status, "FAILED")
        self._store.set_status(stored, status, ended_ms=projection.ended_ms)
        return TABLE_TAGS if table is not None else {}

    def _parent_tags(self, projection: Projection, stored: StoredRun | None, study: str | None) -> dict[str, str]:
        """Puts a run under a study. A named study takes it; its configuration's takes it if no other one has it."""
        name = study or projection.study
        if name is None or (study is None and stored is not None and PARENT_TAG in stored.tags):
            return {}
        parent = self._find(self._studies, name)
        if parent is None:
            tags = {ROOT_TAG: self._root_id, STUDY_TAG: name, "study": name, **SOURCE_TAGS}
            parent = self._store.create(f"study {name}", started_ms=projection.started_ms, tags=tags)
            self._studies[name] = parent
        return {} if parent.is_deleted else {PARENT_TAG: parent.run_id, "study": name}

    def _sync_studies(self, study: str | None, *, finished: bool) -> None:
        """How the members are, and the study's own state: one that is named runs until it is said to have ended."""
        if study is not None:
            self._find(self._studies, study)
        for name, parent in self._studies.items():
            if study not in (None, name) or parent.is_deleted:
                continue
            members = [run for run in self._runs.values() if run.tags.get(PARENT_TAG) == parent.run_id]
            self._store.write(parent, tags=_summary(members))
            is_ended = finished and (study is not None or all(RESULT_TAG in run.tags for run in members))
            if is_ended and parent.status != "FINISHED":
                ended_ms = max((run.ended_ms for run in members if run.ended_ms), default=None)
                self._store.set_status(parent, "FINISHED", ended_ms=ended_ms)
            elif study is not None and not finished and parent.status != "RUNNING":
                self._store.set_status(parent, "RUNNING")


def _summary(members: Sequence[StoredRun]) -> dict[str, str]:
    """Tags of a study: how many of its members are in which state, and a line about each."""
    counts = Counter(run.tags.get("status", "unknown") for run in members)
    lines = sorted(f"- `{run.tags[NAME_TAG]}`: {run.tags.get(NOTE_TAG, 'no result yet')}" for run in members)
    return {
        "status": ", ".join(f"{count} {state}" for state, count in sorted(counts.items())),
        NOTE_TAG: "\n".join(lines),
    }


def _fingerprint(run: RunDir) -> tuple[object, ...]:
    """What changes when a directory has news, from file metadata alone."""
    size = run.metrics.stat().st_size if run.metrics.exists() else 0
    result_ns = run.result.stat().st_mtime_ns if run.result.exists() else 0
    return size, result_ns, run.status.exists(), run.is_held()
