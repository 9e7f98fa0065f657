"""Oracles: HTTP answers of the served page, the process table, the rows of the database behind the server."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from support import mlflow_rows
from support.synthetic_runs import rank_grid

from lora_bench.errors import TrackingError
from lora_bench.tracking import MlflowTracker, dashboard


def test_a_port_in_use_is_named_with_one_that_is_free(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(TrackingError, match=rf"--port: {port} is in use; try --port \d+, which is free") as caught:
            dashboard.serve_dashboard("sqlite:///x.db", root=tmp_path, port=port, on_ready=print)
    suggested = int(str(caught.value).split("try --port ")[1].split(",")[0])
    with socket.create_server(("127.0.0.1", suggested)):
        pass


@pytest.mark.parametrize("port", [-1, 70_000])
def test_a_number_that_is_no_port_is_said_so(port):
    with pytest.raises(TrackingError, match=f"--port: {port} is no port"):
        dashboard.check_port(port)


def test_a_remote_server_is_told_and_not_served_again(tmp_path):
    told: list[str] = []
    dashboard.serve_dashboard("http://mlflow.example:5000", root=tmp_path, port=1, on_ready=told.append)
    assert told == ["http://mlflow.example:5000"]


def test_a_server_that_dies_shows_its_last_words_and_leaves_no_process(tmp_path):
    uri = f"mssql://{tmp_path}/nothing"  # needs a driver that is not installed
    with pytest.raises(TrackingError, match=r"did not start \(exit code \d+\):\n.+"):
        dashboard.serve_dashboard(uri, root=tmp_path, port=dashboard.free_port(), on_ready=print)
    lines = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert [line for line in lines if "-m mlflow server" in line or "uvicorn" in line] == []


def test_the_page_is_served_takes_runs_and_ends_without_a_trace(root):
    """One server for all of it, because one needs ten seconds to start."""
    local, remote = rank_grid(root), rank_grid(root / "second")
    port = dashboard.free_port()
    command = [sys.executable, "-m", "lora_bench.cli", "dashboard", "--root", str(root), "--port", str(port), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        told = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")
        children = psutil.Process(process.pid).children(recursive=True)
        assert told["num_runs"] == 5
        assert told["url"].startswith(f"http://127.0.0.1:{port}/#/experiments/")
        assert _get(f"http://127.0.0.1:{port}/").startswith("<!doctype html>")
        assert {connection.laddr.ip for child in children for connection in child.net_connections()} == {"127.0.0.1"}
        _assert_a_server_takes_runs(root, remote, f"http://127.0.0.1:{port}")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert len(children) >= 2
    deadline = time.monotonic() + 10
    while any(child.is_running() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [child for child in children if child.is_running()] == []
    assert mlflow_rows.run_names(root)[local[0].path.name] == 2


def _assert_a_server_takes_runs(root: Path, runs, uri: str) -> None:  # type: ignore[no-untyped-def]
    """The same projection through HTTP as into a file."""
    for _ in range(2):
        tracker = MlflowTracker(root=root / "second", uri=uri)
        assert tracker.sync(runs, study="remote", finished=True).problems == ()
    assert mlflow_rows.run_names(root)["remote"] == 1
    names = [run.path.name for run in runs]
    assert [mlflow_rows.run_names(root)[name] for name in names] == [2] * 5  # once from each root
    for run in runs:
        both = mlflow_rows.points(root, run, "train/l")
        assert both == {point: 2 * count for point, count in mlflow_rows.told_points(run, "train/l").items()}


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
    return text
