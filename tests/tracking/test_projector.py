"""Oracle: the rows of MLflow's database against the files of the run directories."""

from __future__ import annotations

import itertools
import json
import shutil
from typing import Any

import mlflow
import pytest
from support import mlflow_rows
from support.synthetic_runs import (
    STARTED_MS,
    append_lines,
    finish_run,
    finished_run,
    rank_grid,
    start_run,
    synthetic_config,
)

from lora_bench.tracking import MlflowTracker
from lora_bench.tracking.projector import MAX_WEIGHTS_BYTES
from lora_bench.tracking.store import artifact_root


def sync(root, runs, **options):  # type: ignore[no-untyped-def]
    """As a process that starts now."""
    return MlflowTracker(root=root).sync(runs, **options)


def test_a_grid_is_a_parent_with_its_members(root):
    runs = rank_grid(root)
    report = sync(root, runs, study="ranks", finished=True)
    assert (report.num_written, report.behind, report.problems) == (5, (), ())
    assert mlflow_rows.run_names(root) == {"ranks": 1, **{run.path.name: 1 for run in runs}}
    parent_id = mlflow_rows.run_id(root, "ranks")
    for run in runs:
        assert mlflow_rows.tags(root, run.path.name)["mlflow.parentRunId"] == parent_id
        assert mlflow_rows.points(root, run, "train/l") == mlflow_rows.told_points(run, "train/l")
    parent = mlflow_rows.tags(root, "ranks")
    assert parent["status"] == "5 finished"
    assert parent["mlflow.note.content"].count("\n") == 4
    states = mlflow_rows.rows(root, "SELECT DISTINCT status, start_time, end_time FROM runs")
    assert states == [("FINISHED", STARTED_MS, STARTED_MS + 105_000)]


def test_artifacts_dataset_and_table_are_there(root):
    run = finished_run(root, synthetic_config())
    sync(root, [run])
    (folder,) = artifact_root(root).glob("*/artifacts")
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "config.yaml",
        "predictions.json",
        "result.json",
        "weights/adapter_config.json",
        "weights/adapter_model.safetensors",
    ]
    assert (folder / "result.json").read_bytes() == run.result.read_bytes()
    assert len(json.loads((folder / "predictions.json").read_text())["data"]) == 200
    logged = mlflow_rows.tags(root, run.path.name)["mlflow.loggedArtifacts"]
    assert json.loads(logged) == [{"path": "predictions.json", "type": "table"}]
    assert mlflow_rows.rows(root, "SELECT name, digest FROM datasets") == [("tweet_sentiment", "b" * 12)]


def test_large_weights_stay_in_the_run_directory(root):
    run = finished_run(root, synthetic_config(method="full"))
    with open(run.weights / "model.safetensors", "wb") as file:
        file.truncate(MAX_WEIGHTS_BYTES + 1)
    sync(root, [run])
    assert list(artifact_root(root).rglob("*.safetensors")) == []
    assert len(list(artifact_root(root).rglob("result.json"))) == 1


def test_syncing_again_changes_nothing(root):
    runs = rank_grid(root)
    tracker = MlflowTracker(root=root)
    tracker.sync(runs, study="ranks", finished=True)
    before = mlflow_rows.table_sizes(root)
    assert before["metrics"] > 5 * 40
    assert tracker.sync(runs, study="ranks", finished=True).num_written == 0
    assert sync(root, runs, study="ranks", finished=True).num_written == 0
    assert sync(root, runs).num_written == 0
    assert mlflow_rows.table_sizes(root) == before


def test_a_running_run_is_followed_line_by_line(root):
    config = synthetic_config()
    run = start_run(root, config)
    tracker = MlflowTracker(root=root)
    with run.hold():
        for last in (30, 30, 70, 100):
            first = 10 + 10 * len(run.metrics.read_text().splitlines()) if run.metrics.exists() else 10
            append_lines(run, first=first, last=last)
            tracker.sync([run], study="ranks")
            assert mlflow_rows.points(root, run) == mlflow_rows.told_points(run)
            assert mlflow_rows.tags(root, run.path.name)["status"] == "running"
        finish_run(run, config)
    assert mlflow_rows.rows(root, "SELECT DISTINCT status FROM runs") == [("RUNNING",)]
    tracker.sync([run], study="ranks", finished=True)
    assert mlflow_rows.rows(root, "SELECT DISTINCT status FROM runs") == [("FINISHED",)]
    assert mlflow_rows.points(root, run, "train/l") == mlflow_rows.told_points(run, "train/l")


@pytest.mark.parametrize(
    ("status", "word"), [("diverged", "FAILED"), ("oom", "FAILED"), ("failed", "FAILED"), ("pruned", "KILLED")]
)
def test_a_run_that_ended_early_has_mlflows_word_for_it(root, status, word):
    config = synthetic_config()
    run = start_run(root, config)
    append_lines(run, first=10, last=40)
    finish_run(run, config, status=status)
    sync(root, [run])
    assert mlflow_rows.rows(root, "SELECT status, end_time FROM runs") == [(word, STARTED_MS + 45_000)]
    assert mlflow_rows.tags(root, run.path.name)["status"] == status


def test_a_run_that_died_is_killed_and_runs_again_when_it_is_taken_up(root):
    config = synthetic_config()
    run = start_run(root, config)
    append_lines(run, first=10, last=40)
    sync(root, [run])
    assert mlflow_rows.rows(root, "SELECT status FROM runs") == [("KILLED",)]
    with run.hold():
        sync(root, [run])
        assert mlflow_rows.rows(root, "SELECT status FROM runs") == [("RUNNING",)]
        append_lines(run, first=50, last=100)
        finish_run(run, config)
    sync(root, [run])
    assert mlflow_rows.rows(root, "SELECT status FROM runs") == [("FINISHED",)]
    assert mlflow_rows.points(root, run, "train/l") == mlflow_rows.told_points(run, "train/l")


def test_a_failed_run_that_is_tried_again_is_one_run_without_double_points(root):
    config = synthetic_config()
    run = start_run(root, config)
    append_lines(run, first=10, last=40)
    finish_run(run, config, status="failed")
    sync(root, [run])
    run.archive_failure()
    append_lines(run, first=50, last=100)
    finish_run(run, config)
    sync(root, [run])
    assert mlflow_rows.run_names(root) == {run.path.name: 1}
    written = mlflow_rows.points(root, run)
    assert max(written.values()) == 1
    assert sum(key == "param/lora.r" for key, *_ in written) == 1
    assert mlflow_rows.tags(root, run.path.name)["status"] == "finished"


def test_a_file_that_was_cut_and_written_on_gives_each_step_once(root):
    config = synthetic_config()
    run = start_run(root, config)
    append_lines(run, first=10, last=70)
    sync(root, [run])
    lines = run.metrics.read_text().splitlines(keepends=True)
    later = [line.replace("17900000", "17900009") for line in lines[3:]]  # steps 40 to 70, told again later
    run.metrics.write_text("".join(lines[:3] + later))
    append_lines(run, first=80, last=100)
    finish_run(run, config)
    sync(root, [run])
    steps = [step for key, step, *_ in mlflow_rows.points(root, run) if key == "train/loss"]
    assert sorted(steps) == list(range(10, 101, 10))


def test_a_run_belongs_to_the_study_that_claimed_it_last_or_to_that_of_its_configuration(root):
    named = finished_run(root, synthetic_config(study="own"))
    other = finished_run(root, synthetic_config(r=4))
    sync(root, [named, other], finished=True)
    assert mlflow_rows.tags(root, named.path.name)["study"] == "own"
    assert "mlflow.parentRunId" not in mlflow_rows.tags(root, other.path.name)
    assert mlflow_rows.rows(root, "SELECT status FROM runs WHERE name = 'study own'") == [("FINISHED",)]
    sync(root, [named, other], study="later")
    assert mlflow_rows.tags(root, named.path.name)["study"] == "later"
    sync(root, [named, other])
    assert mlflow_rows.tags(root, named.path.name)["study"] == "later"
    assert mlflow_rows.run_names(root)["later"] == 1


def test_runs_of_two_roots_with_one_store_are_kept_apart(root, tmp_path):
    roots = (root, tmp_path / "second")
    runs = [finished_run(folder, synthetic_config(), name="same") for folder in roots]
    for _ in range(2):
        for folder, run in zip(roots, runs, strict=True):
            MlflowTracker(root=folder, uri=f"sqlite:///{root / 'mlflow.db'}").sync([run])
    assert mlflow_rows.run_names(root) == {"same": 2}


def test_a_run_that_was_deleted_in_mlflow_stays_deleted(root):
    runs = rank_grid(root)
    sync(root, runs)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")
    client.delete_run(mlflow_rows.run_id(root, runs[0].path.name))
    assert sync(root, runs).behind == ()
    assert runs[0].path.name not in mlflow_rows.run_names(root)
    assert sum(mlflow_rows.run_names(root).values()) == 4


def test_a_damaged_directory_does_not_keep_the_others_back(root):
    runs = rank_grid(root)
    runs[1].metrics.write_text("no json\n")
    report = sync(root, runs)
    assert report.num_written == 4
    assert report.behind == (runs[1].path.name,)
    assert "metrics.jsonl: line 1 is no JSON" in report.problems[0]
    assert "move the file away" in report.problems[0]


def test_a_run_that_waits_is_not_shown_yet(root):
    run = start_run(root, synthetic_config())
    run.status.unlink()
    assert sync(root, [run]).num_written == 0
    assert mlflow_rows.run_names(root) == {}


class Death(BaseException):
    """Stands for SIGKILL: nothing in the code may catch it."""


def _mortal(real: Any, *, calls_to_live: int, dies_after_call: bool) -> Any:
    """A client class whose process dies at the n-th call, before the store heard of it or right after."""

    class Mortal:
        calls = 0

        def __init__(self, **options: Any) -> None:
            self._real = real(**options)

        def __getattr__(self, name: str) -> Any:
            method = getattr(self._real, name)

            def call(*args: Any, **kwargs: Any) -> Any:
                Mortal.calls += 1
                is_last = Mortal.calls > calls_to_live
                if is_last and not dies_after_call:
                    raise Death
                answer = method(*args, **kwargs)
                if is_last:
                    raise Death
                return answer

            return call

    return Mortal


@pytest.mark.parametrize(("dies_after_call", "was_followed"), [(False, False), (True, False), (True, True)])
def test_dying_at_any_call_loses_and_doubles_nothing(root, tmp_path, monkeypatch, dies_after_call, was_followed):
    """Each call of a whole sync is the last one of its process once; then another process goes on."""
    real = mlflow.MlflowClient
    for calls_to_live in itertools.count():
        folder = tmp_path / f"dies-{calls_to_live}"
        folder.mkdir()
        shutil.copy(root / "mlflow.db", folder)
        config = synthetic_config()
        run = start_run(folder, config)
        append_lines(run, first=10, last=30)
        if was_followed:
            sync(folder, [run], study="ranks")
        append_lines(run, first=40, last=100)
        finish_run(run, config)
        mortal = _mortal(real, calls_to_live=calls_to_live, dies_after_call=dies_after_call)
        monkeypatch.setattr(mlflow, "MlflowClient", mortal)
        is_dead = False
        try:
            sync(folder, [run], study="ranks", finished=True)
        except Death:
            is_dead = True
        monkeypatch.setattr(mlflow, "MlflowClient", real)
        sync(folder, [run], study="ranks", finished=True)
        _assert_whole(folder, run)
        if not is_dead:
            break
    assert calls_to_live >= (8 if was_followed else 12)


def _assert_whole(root, run):  # type: ignore[no-untyped-def]
    assert mlflow_rows.run_names(root) == {"ranks": 1, run.path.name: 1}
    assert mlflow_rows.points(root, run, "train/l") == mlflow_rows.told_points(run, "train/l")
    written = mlflow_rows.points(root, run)
    assert max(written.values()) == 1
    assert len({(key, step) for key, step, *_ in written}) == len(written)
    tags = mlflow_rows.tags(root, run.path.name)
    assert tags["lora_bench.synced_result"] == "finished"
    assert "mlflow.parentRunId" in tags
    assert mlflow_rows.params(root, run.path.name)["lora.r"] == "8"
    assert mlflow_rows.table_sizes(root)["inputs"] == 1
    assert len(list(artifact_root(root).rglob("*.safetensors"))) == 1
    assert mlflow_rows.rows(root, "SELECT DISTINCT status, end_time FROM runs") == [("FINISHED", STARTED_MS + 105_000)]
