"""The door to MLflow: the only module that imports it, and only when a store is opened.

Every method may be repeated: what is there already is not written twice. MLflow itself drops a point whose key,
time, step and value it has.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lora_bench.errors import TrackingError
from lora_bench.redact import shown
from lora_bench.tracking.page import EXPERIMENT_TAGS, VIEW_TAG
from lora_bench.tracking.projection import Point
from lora_bench.tracking.store import artifact_root, check_reachable, ensure_database, is_server, sqlite_path

MAX_PARAM_CHARS = 6000
"""MLflow cuts longer parameters without a word (mlflow 3.17, utils/validation.py)."""
MAX_TAG_CHARS = 5000
"""What every MLflow server accepts (mlflow 3.17 itself: 8000)."""
MAX_POINTS = 800
MAX_PARAMS = 100
"""Per request; MLflow accepts 100 parameters, 100 tags and 1000 entries in all."""


@dataclass
class StoredRun:
    """A run as the store has it."""

    run_id: str
    status: str
    is_deleted: bool
    ended_ms: int | None
    tags: dict[str, str]


class MlflowStore:
    """One experiment of one MLflow store. Every method raises `TrackingError` when the store does not do it."""

    def __init__(self, uri: str, *, root: Path, experiment: str) -> None:
        """Opens the store, and makes database and experiment if they are not there."""
        quieten()
        path = sqlite_path(uri)
        if path is not None:
            ensure_database(path, create=lambda partial: _create_tables(partial, artifacts=artifact_root(root)))
        check_reachable(uri)
        from mlflow import MlflowClient

        with _answer():
            self._client = MlflowClient(tracking_uri=uri)
            location = None if is_server(uri) else artifact_root(root).as_uri()
            self.experiment_id = self._ensure_experiment(experiment, location)

    def find(self, tag: str, value: str) -> list[StoredRun]:
        """Every run with this tag, deleted ones included, oldest first."""
        from mlflow.entities import ViewType

        def search(token: str | None) -> Any:
            return self._client.search_runs(
                [self.experiment_id],
                f"tags.`{tag}` = '{value}'",
                run_view_type=ViewType.ALL,
                max_results=1000,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )

        with _answer():
            return [_stored(run) for run in _pages(search)]

    def create(self, name: str, *, started_ms: int, tags: dict[str, str]) -> StoredRun:
        """A new run; its tags are written with it, so that it is found again if we die right after."""
        tags = {key: _shortened(value, MAX_TAG_CHARS) for key, value in tags.items()}
        with _answer():
            run = self._client.create_run(self.experiment_id, started_ms, tags, name)
        return StoredRun(run.info.run_id, "RUNNING", is_deleted=False, ended_ms=None, tags=tags)

    def write(
        self,
        stored: StoredRun,
        *,
        tags: dict[str, str],
        params: Mapping[str, str] = MappingProxyType({}),
        points: Sequence[Point] = (),
    ) -> bool:
        """Parameters and points, and after them the tags, which may therefore say that the points are there.

        Returns whether there was anything that the store did not have.
        """
        from mlflow.entities import Metric, Param, RunTag

        news = {key: _shortened(value, MAX_TAG_CHARS) for key, value in tags.items()}
        news = {key: value for key, value in news.items() if stored.tags.get(key) != value}
        metrics = _chunks(
            [Metric(point.key, point.value, point.timestamp_ms, point.step) for point in points], MAX_POINTS
        )
        texts = _chunks([Param(key, _shortened(value, MAX_PARAM_CHARS)) for key, value in params.items()], MAX_PARAMS)
        batches = list(itertools.zip_longest(metrics, texts, fillvalue=()))
        if news and not batches:
            batches = [((), ())]
        for index, (some_metrics, some_texts) in enumerate(batches, start=1):
            some_tags = [RunTag(key, value) for key, value in news.items()] if index == len(batches) else []
            with _answer():
                self._client.log_batch(stored.run_id, some_metrics, some_texts, some_tags, synchronous=True)
        stored.tags |= news
        return bool(batches)

    def history(self, stored: StoredRun, keys: Sequence[str]) -> set[tuple[str, int]]:
        """Metric and step of every point that a run has of these metrics."""
        with _answer():
            return {(key, entry.step) for key in keys for entry in self._client.get_metric_history(stored.run_id, key)}

    def set_dataset(self, stored: StoredRun, *, name: str, digest: str) -> None:
        """What a run was trained and evaluated on."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"task": name, "data_digest": digest})
        dataset = Dataset(name=name, digest=digest[:12], source_type="lora_bench", source=source)
        with _answer():
            context = InputTag("mlflow.data.context", "train, eval")
            self._client.log_inputs(stored.run_id, datasets=[DatasetInput(dataset=dataset, tags=[context])])

    def upload(self, stored: StoredRun, path: Path, *, folder: str | None = None) -> None:
        """A file, or all files of a folder, as artifacts; replaces what has the same name."""
        send = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        with _answer():
            send(stored.run_id, str(path), folder)

    def upload_table(self, stored: StoredRun, table: dict[str, Any], name: str) -> None:
        """Columns and rows that MLflow shows as a table. Replaces it; MLflow's own `log_table` would add to it."""
        with _answer():
            self._client.log_dict(stored.run_id, table, name)

    def set_status(self, stored: StoredRun, status: str, *, ended_ms: int | None = None) -> None:
        """`RUNNING`, `FINISHED`, `FAILED` or `KILLED`, the last three with their time."""
        with _answer():
            if ended_ms is not None:
                self._client.set_terminated(stored.run_id, status, ended_ms)
            else:
                self._client.update_run(stored.run_id, status)
        stored.status, stored.ended_ms = status, ended_ms

    def set_view(self, view: str) -> None:
        """What `page.page_path` leads to."""
        with _answer():
            self._client.set_experiment_tag(self.experiment_id, VIEW_TAG, view)

    def _ensure_experiment(self, name: str, location: str | None) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return str(self._client.create_experiment(name, location, EXPERIMENT_TAGS))
        if found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"tracking.experiment: '{name}' was deleted in MLflow; restore it there, or give another name"
            )
        return str(found.experiment_id)


def quieten() -> None:
    """To be called before MLflow is imported: no telemetry, no tracebacks of its own, no retries (a sync is one)."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)


@contextlib.contextmanager
def _answer() -> Iterator[None]:
    """Turns whatever the store answers into our own error.

    Raises:
        TrackingError: If the block failed in the store or on the way to it.
    """
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, requests.RequestException, OSError) as err:
        lines = str(err).strip().splitlines() or [type(err).__name__]
        # SQLAlchemy may put advice on its sessions before what the database said.
        said = next((line for line in lines if "Error)" in line), lines[0])
        raise TrackingError(f"MLflow: {shown(said)[:300]}") from err


def _create_tables(path: Path, *, artifacts: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with _answer():
        SqlAlchemyStore(f"sqlite:///{path}", artifacts.as_uri()).engine.dispose()


def _stored(run: Any) -> StoredRun:
    info = run.info
    return StoredRun(info.run_id, info.status, info.lifecycle_stage == "deleted", info.end_time, dict(run.data.tags))


def _shortened(value: str, limit: int) -> str:
    """The same text, or its beginning with a mark that says what is missing."""
    if len(value) <= limit:
        return value
    mark = f" ... ({len(value)} characters, whole in the run directory)"
    return value[: limit - len(mark)] + mark


def _chunks(entries: list[Any], size: int) -> list[list[Any]]:
    return [entries[first : first + size] for first in range(0, len(entries), size)]


def _pages(search: Callable[[str | None], Any]) -> Iterator[Any]:
    page = search(None)
    yield from page
    while page.token:
        page = search(page.token)
        yield from page
