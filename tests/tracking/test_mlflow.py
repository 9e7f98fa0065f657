"""Oracle: the rows of MLflow's database."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from support import mlflow_rows

from lora_bench.errors import TrackingError
from lora_bench.rundir import RunDir
from lora_bench.tracking.mlflow import MAX_PARAM_CHARS, MlflowStore
from lora_bench.tracking.projection import Point
from lora_bench.tracking.store import artifact_root, store_uri


@pytest.fixture
def store(root):
    return MlflowStore(store_uri(None, root), root=root, experiment="lora_bench")


def test_more_points_than_one_request_takes_are_all_there_once(store, root):
    run = store.create("many", started_ms=5, tags={"a": "b"})
    points = [Point("train/loss", step / 7, 1000 + step, step) for step in range(2500)]
    params = {f"key.{index}": str(index) for index in range(250)}
    assert store.write(run, tags={"done": "yes"}, params=params, points=points)
    written = mlflow_rows.points(root, RunDir(root / "runs" / "many"))
    assert written == {("train/loss", step, 1000 + step, step / 7): 1 for step in range(2500)}
    assert mlflow_rows.params(root, "many") == params
    assert mlflow_rows.tags(root, "many").items() >= {"a": "b", "done": "yes"}.items()


def test_a_point_that_is_sent_again_is_one_point(store, root):
    run = store.create("again", started_ms=5, tags={})
    point, nan = Point("loss", 0.1, 1000, 1), Point("loss", math.nan, 2000, 2)
    store.write(run, tags={}, points=[point, nan])
    store.write(run, tags={}, points=[point, nan, Point("loss", 0.3, 3000, 3)])
    written = mlflow_rows.points(root, RunDir(root / "runs" / "again"))
    assert written == {("loss", 1, 1000, 0.1): 1, ("loss", 2, 2000, None): 1, ("loss", 3, 3000, 0.3): 1}
    assert store.history(run, ["loss"]) == {("loss", 1), ("loss", 2), ("loss", 3)}


def test_a_long_parameter_says_that_it_was_cut(store, root):
    run = store.create("long", started_ms=5, tags={})
    store.write(run, tags={}, params={"text": "x" * 10_000})
    text = mlflow_rows.params(root, "long")["text"]
    assert len(text) == MAX_PARAM_CHARS
    assert text.endswith(" ... (10000 characters, whole in the run directory)")


def test_nothing_new_is_no_request(store, monkeypatch):
    run = store.create("same", started_ms=5, tags={"a": "b"})
    monkeypatch.delattr(type(store._client), "log_batch")
    assert not store.write(run, tags={"a": "b"})


def test_runs_are_found_by_tag_oldest_first(store):
    for name, started_ms in (("late", 9), ("early", 5)):
        store.create(name, started_ms=started_ms, tags={"lora_bench.root": "here", "name": name})
    store.create("other", started_ms=1, tags={"lora_bench.root": "there"})
    found = store.find("lora_bench.root", "here")
    assert [run.tags["name"] for run in found] == ["early", "late"]


def test_a_dataset_and_a_table_are_replaced_not_added(store, root):
    run = store.create("inputs", started_ms=5, tags={})
    for _ in range(2):
        store.set_dataset(run, name="tweets", digest="b" * 64)
        store.upload_table(run, {"columns": ["a"], "data": [[1]]}, "table.json")
    assert mlflow_rows.rows(root, "SELECT name, digest FROM datasets") == [("tweets", "b" * 12)]
    assert mlflow_rows.table_sizes(root)["inputs"] == 1
    (table,) = artifact_root(root).rglob("table.json")
    assert table.read_text().count("columns") == 1


def test_an_experiment_that_was_deleted_is_said_so(store, root):
    store._client.delete_experiment(store.experiment_id)
    with pytest.raises(TrackingError, match=r"tracking\.experiment: 'lora_bench' was deleted.*another name"):
        MlflowStore(store_uri(None, root), root=root, experiment="lora_bench")


def test_a_refusal_of_mlflow_becomes_our_error_in_one_line(store):
    run = store.create("params", started_ms=5, tags={})
    store.write(run, tags={}, params={"a": "1"})
    with pytest.raises(TrackingError, match=r"^MLflow: .*Changing param values is not allowed") as caught:
        store.write(run, tags={}, params={"a": "2"})
    assert "\n" not in str(caught.value)


def test_telemetry_is_off_before_mlflow_is_there_and_nothing_is_imported_early():
    code = (
        "import sys, os; import lora_bench.tracking, lora_bench.tracking.dashboard\n"
        "assert not {'mlflow', 'torch', 'pandas', 'sqlalchemy'} & set(sys.modules), 'imported early'\n"
        "from lora_bench.tracking.mlflow import quieten; quieten()\n"
        "from mlflow.telemetry.utils import is_telemetry_disabled\n"
        "print(is_telemetry_disabled())"
    )
    environment = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "True", done.stderr
