"""A PostgreSQL server of our own for a test: in a folder of its own, on loopback, stopped and started at will."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

USER = "postgres"


class PostgresServer:
    """The binaries of Debian's package `postgresql`; as root the server runs as the user that the package makes."""

    def __init__(self, folder: Path) -> None:
        """Makes a cluster in this folder; its port is one that is free now."""
        self._binaries = find_binaries()
        assert self._binaries is not None, "looked for before"
        self._folder = folder
        if os.getuid() == 0:
            shutil.chown(folder, USER, USER)
        self._run("initdb", "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        with socket.socket() as probe:  # last, so that nobody has the time to take it
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    def start(self) -> None:
        """Returns when it takes connections."""
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self._folder} -c fsync=off"
        self._run("pg_ctl", "-w", "-t", "60", "-l", f"{self._folder}/log", "-o", options, "start")

    def stop(self) -> None:
        """Ends it at once, with every connection."""
        self._run("pg_ctl", "-m", "immediate", "stop")

    def url(self, database: str) -> str:
        """Of a database, which is made if it is not there."""
        import psycopg

        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone()
            if known is None:
                connection.execute(f'CREATE DATABASE "{database}"')
        return self._address(database)

    def _address(self, database: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), "-D", f"{self._folder}/data", *arguments]
        if os.getuid() == 0:
            command = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *command]
        # A server that inherits a pipe would keep whoever reads it waiting.
        with open(self._folder / f"{program}.log", "ab") as log:
            done = subprocess.run(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/", check=False)
        assert done.returncode == 0, (self._folder / f"{program}.log").read_text()


def find_binaries() -> Path | None:
    """The newest of Debian's PostgreSQL servers on this machine, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def server_folder() -> Path:
    """A short path that the server's own user can reach, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="lora-bench-pg-"))
    folder.chmod(0o755)
    return folder
