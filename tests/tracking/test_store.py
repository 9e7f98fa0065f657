"""Oracles: the file system, SQLite's own pragma, sockets that listen or do not."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import time
from pathlib import Path

import pytest

from lora_bench.errors import TrackingError
from lora_bench.tracking import store


def test_the_default_store_is_in_the_root(tmp_path):
    uri = store.store_uri(None, tmp_path)
    assert store.sqlite_path(uri) == tmp_path / "mlflow.db"
    assert not store.is_server(uri)
    assert store.store_uri("http://host:5000", tmp_path) == "http://host:5000"
    assert store.is_server("https://host")
    assert store.sqlite_path("postgresql://host/db") is None


def test_the_root_keeps_its_id_when_it_moves(tmp_path):
    first = tmp_path / "a"
    first.mkdir()
    root_id = store.read_root_id(first)
    assert store.read_root_id(first) == root_id
    first.rename(tmp_path / "b")
    assert store.read_root_id(tmp_path / "b") == root_id
    assert store.read_root_id(tmp_path / "c") != root_id


def _create(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE runs (name TEXT)")
        database.commit()


def test_a_database_is_made_once_in_write_ahead_mode(tmp_path):
    made = []

    def create(path: Path) -> None:
        made.append(path)
        _create(path)

    for _ in range(3):
        store.ensure_database(tmp_path / "mlflow.db", create=create)
    assert len(made) == 1
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mlflow.db.lock", "mlflow.db"]


def test_what_a_killed_maker_left_is_not_taken_for_a_database(tmp_path):
    def die(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.ensure_database(tmp_path / "mlflow.db", create=die)
    assert not (tmp_path / "mlflow.db").exists()
    store.ensure_database(tmp_path / "mlflow.db", create=_create)
    assert [path.name for path in tmp_path.glob("mlflow*")] == ["mlflow.db"]


def test_a_lock_that_is_held_is_waited_for_and_then_named(tmp_path):
    lock = tmp_path / "lock"
    with store.locked(lock, wait_s=0):
        started = time.monotonic()
        with pytest.raises(TrackingError, match="another process is writing"), store.locked(lock, wait_s=0.3):
            pass
        assert 0.3 <= time.monotonic() - started < 3
    with store.locked(lock, wait_s=0):
        pass


def test_a_root_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(TrackingError, match=r"cannot be written.*paths\.root"),
        store.locked(tmp_path / "file" / "lock", wait_s=0),
    ):
        pass


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("http://127.0.0.1:9", "127.0.0.1:9 does not answer"),
        ("postgresql://user:secret@127.0.0.1:9/db", "postgresql://127.0.0.1:9 does not answer"),
        ("http://127.0.0.1:99999", "has no valid host and port"),
        ("ftp://host", "is not a known store; accepted are sqlite://, http://"),
        ("mlruns", "has no scheme, and MLflow's folders of files are not written"),
    ],
)
def test_a_server_that_is_away_is_found_out_at_once(uri, words):
    started = time.monotonic()
    with pytest.raises(TrackingError, match=words) as caught:
        store.check_reachable(uri)
    assert time.monotonic() - started < store.PROBE_S + 1
    assert "secret" not in str(caught.value)


def test_a_server_that_listens_is_reachable():
    with socket.create_server(("127.0.0.1", 0)) as server:
        store.check_reachable(f"http://127.0.0.1:{server.getsockname()[1]}")


def test_a_file_that_is_no_database_is_named(tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_bytes(os.urandom(4096))
    with pytest.raises(TrackingError, match="cannot be read as an SQLite store"):
        store.check_reachable(f"sqlite:///{path}")
