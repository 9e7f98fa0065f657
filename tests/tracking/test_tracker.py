"""Oracle: the rows of MLflow's database, after stores that were locked or away and processes that were killed."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
import time

from support import mlflow_rows
from support.sync_all import start_sync, sync_all
from support.synthetic_runs import (
    append_lines,
    finish_run,
    finished_run,
    rank_grid,
    start_run,
    synthetic_config,
)

from lora_bench.errors import TrackingError
from lora_bench.rundir import RunDir
from lora_bench.tracking import MlflowTracker, NullTracker, store, tracker


def test_processes_that_are_killed_at_any_moment_lose_and_double_nothing(root):
    """Each round adds runs and kills a sync at a random moment, until four were killed before they were done."""
    rng, runs, num_killed = random.Random(7), [], 0
    for round_index in range(40):
        runs += [finished_run(root, synthetic_config(r=1 + index, seed=round_index)) for index in range(8)]
        process = start_sync(root)
        process.join(rng.uniform(0.05, 0.6))
        num_killed += process.is_alive()
        process.kill()
        process.join()
        if num_killed == 4:
            break
    assert num_killed == 4
    sync_all(root)
    assert mlflow_rows.run_names(root) == {"ranks": 1, **{run.path.name: 1 for run in runs}}
    for run in runs:
        written = mlflow_rows.points(root, run)
        assert mlflow_rows.points(root, run, "train/l") == mlflow_rows.told_points(run, "train/l")
        assert len({(key, step) for key, step, *_ in written}) == sum(written.values())
    before = mlflow_rows.table_sizes(root)
    sync_all(root)
    assert mlflow_rows.table_sizes(root) == before


def test_processes_that_come_first_together_make_one_whole_store(tmp_path):
    runs = rank_grid(tmp_path)
    processes = [start_sync(tmp_path) for _ in range(4)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert mlflow_rows.run_names(tmp_path) == {"ranks": 1, **{run.path.name: 1 for run in runs}}
    assert mlflow_rows.rows(tmp_path, "PRAGMA integrity_check") == [("ok",)]
    assert mlflow_rows.rows(tmp_path, "PRAGMA journal_mode") == [("wal",)]


def test_a_store_that_is_locked_for_seconds_is_waited_for(root):
    run = finished_run(root, synthetic_config())
    tracked = MlflowTracker(root=root)
    tracked.sync([finished_run(root, synthetic_config(r=4))])
    locked, started = threading.Event(), time.monotonic()

    def hold() -> None:
        with contextlib.closing(sqlite3.connect(root / "mlflow.db", isolation_level=None)) as database:
            database.execute("BEGIN EXCLUSIVE")
            locked.set()
            time.sleep(2)
            database.execute("COMMIT")

    thread = threading.Thread(target=hold)
    thread.start()
    locked.wait()
    report = tracked.sync([run])
    thread.join()
    assert time.monotonic() - started >= 2
    assert (report.num_written, report.problems) == (1, ())
    assert mlflow_rows.points(root, run, "train/l") == mlflow_rows.told_points(run, "train/l")


def test_a_server_that_is_away_costs_seconds_and_loses_nothing(root):
    runs = rank_grid(root)
    started = time.monotonic()
    report = MlflowTracker(root=root, uri="http://127.0.0.1:9").sync(runs, finished=True)
    assert time.monotonic() - started < 5
    assert report.num_written == 0
    assert report.behind == tuple(run.path.name for run in runs)
    assert report.problems[0].startswith("http://127.0.0.1:9 does not answer")
    assert MlflowTracker(root=root).sync(runs).num_written == 5


def test_a_store_that_comes_back_is_caught_up_with_the_original_times(root, monkeypatch):
    config = synthetic_config()
    run = start_run(root, config)
    tracked = MlflowTracker(root=root)
    (root / "mlflow.db").rename(root / "away.db")
    (root / "mlflow.db").mkdir()
    with run.hold():
        append_lines(run, first=10, last=60)
        report = tracked.sync([run])
        assert report.behind == (run.path.name,)
        assert "mlflow.db: cannot be read as an SQLite store" in report.problems[0]
        append_lines(run, first=70, last=100)
        finish_run(run, config)
    (root / "mlflow.db").rmdir()
    (root / "away.db").rename(root / "mlflow.db")
    assert tracked.sync([run]).problems == report.problems, "it is asked again only after a pause"
    monkeypatch.setattr(tracker.time, "monotonic", lambda: float("inf"))
    assert tracked.sync([run]).num_written == 1
    assert mlflow_rows.points(root, run, "train/l") == mlflow_rows.told_points(run, "train/l")
    assert mlflow_rows.run_names(root) == {run.path.name: 1}


def test_a_store_that_failed_is_left_alone_for_longer_each_time(root, monkeypatch):
    (run,) = [finished_run(root, synthetic_config())]
    clock, probes = [100.0], []

    def probe(uri: str) -> None:
        probes.append(clock[0])
        raise TrackingError("away")

    monkeypatch.setattr("lora_bench.tracking.mlflow.check_reachable", probe)
    monkeypatch.setattr(tracker.time, "monotonic", lambda: clock[0])
    tracked = MlflowTracker(root=root, uri="http://nowhere")
    while clock[0] < 300:
        assert tracked.sync([run]).problems == ("away",)
        clock[0] += 1
    assert probes == [100, 105, 115, 135, 175, 235, 295]
    tracked.sync([run], finished=True)
    assert probes[-1] == 300


def test_another_writer_is_not_waited_for_while_runs_go_on(root):
    runs = rank_grid(root)
    with store.locked(root / ".mlflow.lock", wait_s=0):
        started = time.monotonic()
        report = MlflowTracker(root=root).sync(runs)
        assert time.monotonic() - started < 5
    assert "another process is writing" in report.problems[0]
    assert len(report.behind) == 5


def test_a_store_that_is_prepared_is_open_when_the_first_run_has_something_to_tell(root):
    tracked = MlflowTracker(root=root)
    tracked.prepare()
    run = finished_run(root, synthetic_config(r=1, seed=0))
    assert tracked.sync([run]).problems == ()
    assert tracked.sync([run], finished=True).behind == ()
    assert mlflow_rows.run_names(root)[run.path.name] == 1


def test_a_store_that_cannot_be_prepared_says_so_at_the_first_sync(root):
    tracked = MlflowTracker(root=root, uri="http://127.0.0.1:9")
    tracked.prepare()
    run = finished_run(root, synthetic_config(r=1, seed=0))
    report = tracked.sync([run], finished=True)
    assert report.behind == (run.path.name,)
    assert "does not answer" in report.problems[0]


def test_nothing_new_opens_nothing(root, monkeypatch):
    runs = rank_grid(root)
    tracked = MlflowTracker(root=root)
    tracked.sync(runs)
    monkeypatch.setattr(tracker, "locked", None)
    assert tracked.sync(runs).num_written == 0


def test_the_page_of_the_runs_is_prepared(root):
    tracked = MlflowTracker(root=root)
    tracked.sync(rank_grid(root))
    path = tracked.share_view(["accuracy"])
    ((experiment_id, name),) = mlflow_rows.rows(
        root, "SELECT experiment_id, name FROM experiments WHERE name = 'lora_bench'"
    )
    assert name == "lora_bench"
    assert f"/experiments/{experiment_id}/" in path
    view = dict(mlflow_rows.rows(root, "SELECT key, value FROM experiment_tags"))
    assert view["mlflow.experimentKind"] == "custom_model_development"
    assert "test/accuracy" in view["mlflow.sharedViewState.lora_bench"]


def test_a_hundred_runs_take_seconds(tmp_path):
    runs: list[RunDir] = []
    for index in range(100):
        runs.append(finished_run(tmp_path, synthetic_config(r=1 + index % 10, seed=index // 10)))
    started = time.monotonic()
    assert MlflowTracker(root=tmp_path).sync(runs, study="all", finished=True).num_written == 100
    assert time.monotonic() - started < 60  # 5 s on an idle core of 2026, making the store included


def test_what_keeps_a_store_from_being_written_is_known_before_runs_start(tmp_path):
    away = MlflowTracker(root=tmp_path, uri="http://127.0.0.1:9")
    assert away.find_problem() == "http://127.0.0.1:9 does not answer (Connection refused)"
    assert MlflowTracker(root=tmp_path).find_problem() is None
    assert not (tmp_path / "mlflow.db").exists(), "looking makes no store"
    (tmp_path / "mlflow.db").write_text("no database, and longer than a header of sixteen bytes")
    assert "cannot be read as an SQLite store" in str(MlflowTracker(root=tmp_path).find_problem())
    assert NullTracker().find_problem() is None
