"""Serves the MLflow page over a store, on this machine alone, until it is told to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from lora_bench.errors import TrackingError
from lora_bench.tracking.store import artifact_root, is_server

HOST = "127.0.0.1"
START_S = 120.0
"""MLflow's server needs 5 to 25 s, and longer on a machine that is busy."""

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # else 15 processes and 2.4 GB for jobs that nobody asks for
    "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "50",  # with the default of 5, 16 requests at once are refused
}


def serve_dashboard(uri: str, *, root: Path, port: int, on_ready: Callable[[str], None]) -> None:
    """Blocks until Ctrl-C, SIGTERM or SIGHUP, and leaves no process behind.

    Does not bring the store up to date: sync first.

    Args:
        uri: Of the store. A store that is a server has its page already, which is told and not served again.
        root: Its artifacts are shown; the server's log is written there.
        port: On the loopback interface.
        on_ready: Gets the URL once the page answers.

    Raises:
        TrackingError: If the port is taken, or the server does not start.
    """
    if is_server(uri):
        on_ready(uri)
        return
    check_port(port)
    url = f"http://{HOST}:{port}"
    log = root.resolve() / "dashboard.log"
    with _stop_signals_raise(), _server(uri, root=root, port=port, log=log) as server:
        try:
            _wait_until_up(server, url, log)
            on_ready(url)
            server.wait()
        except KeyboardInterrupt:
            return
    raise TrackingError(f"the MLflow server ended by itself (exit code {server.returncode}); see {log}")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def check_port(port: int) -> None:
    """Whether the page can be served there.

    Raises:
        TrackingError: If the port is taken or is none.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as err:
            reason = "is in use" if isinstance(err, OSError) else "is no port"
            raise TrackingError(f"--port: {port} {reason}; try --port {free_port()}, which is free") from err


@contextlib.contextmanager
def _server(uri: str, *, root: Path, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs the server in a session of its own, so that Ctrl-C reaches us alone and we end all of its processes."""
    artifacts = artifact_root(root).as_uri()
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", HOST, "--port", str(port)]
    command += ["--artifacts-destination", artifacts]
    with open(log, "wb") as output:
        server = subprocess.Popen(
            command,
            env={**os.environ, **SETTINGS, "MLFLOW_BACKEND_STORE_URI": uri},  # not an argument: it may hold a password
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield server
    finally:
        _end_group(server)


def _end_group(server: subprocess.Popen[bytes]) -> None:
    for number, patience_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            server.poll()  # reaps the leader, which else stays in its group as a zombie
            try:
                os.killpg(server.pid, number)
            except ProcessLookupError:
                return
            time.sleep(0.2)


def _wait_until_up(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
            raise TrackingError(f"the MLflow server did not start (exit code {server.returncode}):\n{tail}")
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
            return
        time.sleep(0.2)
    raise TrackingError(f"the MLflow server does not answer after {START_S:.0f} s; see {log}")


@contextlib.contextmanager
def _stop_signals_raise() -> Iterator[None]:
    """A closed terminal or a `kill` ends us as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # a shell starts background jobs with SIGINT ignored
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
