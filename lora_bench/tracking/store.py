"""Where the MLflow store of a root is, who may write to it, and whether it answers. Imports no MLflow."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from lora_bench.config.trackinguri import DEFAULT_PORTS, uri_problem
from lora_bench.errors import TrackingError
from lora_bench.rundir import TEMPORARY_MARK, sync_path, write_text

PROBE_S = 2.0
"""A server that does not take a connection within this time is away. MLflow itself would try for minutes."""
_DISK_CODES = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
"""What SQLite says of a full or read-only disk, on which the files beside a database cannot be made."""


def store_uri(uri: str | None, root: Path) -> str:
    """The URI as MLflow takes it; None is SQLite in the root."""
    return with_driver(uri) if uri else f"sqlite:///{root.resolve() / 'mlflow.db'}"


def with_driver(uri: str) -> str:
    """The URI with psycopg as PostgreSQL's driver; SQLAlchemy's default is its predecessor, which is not installed."""
    return uri.replace("postgresql://", "postgresql+psycopg://", 1) if uri.startswith("postgresql://") else uri


def artifact_root(root: Path) -> Path:
    """Where artifacts go if the store is a database; a server decides for itself."""
    return root.resolve() / "mlartifacts"


def is_server(uri: str) -> bool:
    """Whether the store is behind an MLflow server rather than a database that we open."""
    return urlsplit(uri).scheme in ("http", "https")


def sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite store, or None for other stores."""
    return Path(uri.removeprefix("sqlite:///").split("?")[0]) if uri.startswith("sqlite:///") else None


def read_root_id(root: Path) -> str:
    """What tells the runs of this root from those of another one that uses the same server; moves with the folder.

    Called by the writer only, which holds the lock.
    """
    path = root / ".root-id"
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        write_text(path, uuid.uuid4().hex + "\n")
        return path.read_text(encoding="utf-8").strip()


@contextlib.contextmanager
def locked(path: Path, *, wait_s: float) -> Iterator[None]:
    """Holds a lock file; the kernel frees it when its holder dies.

    Raises:
        TrackingError: If another process holds it for longer than `wait_s`, or it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as err:
        raise TrackingError(
            f"{path.parent}: cannot be written ({err.strerror}); make it writable, or set another paths.root"
        ) from err
    try:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as err:
                if time.monotonic() > deadline:
                    raise TrackingError(f"{path}: another process is writing to the store; try again later") from err
                time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def ensure_database(path: Path, *, create: Callable[[Path], None]) -> None:
    """Makes an SQLite store once, whoever comes first, and sets it to write-ahead logging.

    MLflow migrates a fresh database step by step: two processes that do it at once, or one that is killed, leave
    a broken file. It is therefore made under another name, by one process, and renamed when it is whole.

    Args:
        path: Where the database shall be; nothing happens if it is there.
        create: Makes the tables in the file it is given, and closes it.
    """
    if path.exists():
        return
    with locked(path.with_name(f".{path.name}.lock"), wait_s=60):
        if path.exists():
            return
        for left_over in path.parent.glob(f"{path.name}{TEMPORARY_MARK}*"):
            left_over.unlink()
        partial = path.with_name(f"{path.name}{TEMPORARY_MARK}{os.getpid()}")
        create(partial)
        with contextlib.closing(sqlite3.connect(partial)) as database:
            database.execute("PRAGMA journal_mode=WAL")
        os.rename(partial, path)
        sync_path(path.parent)


def check_reachable(uri: str) -> None:
    """Finds out within seconds what MLflow, which tries again and again, would find out in minutes.

    Raises:
        TrackingError: If the server takes no connection, or the file is no database that can be read.
    """
    path = sqlite_path(uri)
    if path is not None:
        _check_sqlite(path)
        return
    if (problem := uri_problem(uri)) is not None:
        raise TrackingError(f"tracking.uri: {problem}")
    parts = urlsplit(uri)
    scheme = parts.scheme.split("+")[0]
    address = (parts.hostname, parts.port or DEFAULT_PORTS[scheme])
    try:
        socket.create_connection(address, timeout=PROBE_S).close()
    except OSError as err:
        raise TrackingError(f"{scheme}://{address[0]}:{address[1]} does not answer ({err.strerror or err})") from err


def _check_sqlite(path: Path) -> None:
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=20)) as database:
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as err:
        remedy = (
            "make room on its disk, or make the folder writable"
            if err.sqlite_errorcode & 0xFF in _DISK_CODES
            else "move it away, and it is made again"
        )
        raise TrackingError(f"{path}: cannot be read as an SQLite store ({err}); {remedy}") from err
