"""Where Optuna keeps a study: a journal file by default, PostgreSQL by URL. Optuna is imported when it is opened."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lora_bench import rundir
from lora_bench.errors import ConfigError, Fault, StorageAwayError, StudyError
from lora_bench.redact import shown
from lora_bench.tracking.store import with_driver

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

CONNECT_S = 5
"""Seconds within which a server must take a connection."""
LOCK_GRACE_S = 10
"""Seconds after which the journal's lock is taken from a process that died with it; appends take milliseconds."""


def storage_faults(url: str | None) -> list[Fault]:
    """What is wrong with `study.storage`."""
    if url is None:
        return []
    if url.startswith(("postgresql://", "postgresql+psycopg://")):
        if importlib.util.find_spec("psycopg") is not None:
            return []
        return [Fault("study.storage", "PostgreSQL needs its driver, psycopg; pip install 'lora-bench[postgres]'")]
    if url.startswith("sqlite"):
        # Measured: of 8 processes that asked for 20 enqueued trials each, 7 died; SQLite has no SELECT ... FOR UPDATE.
        return [
            Fault(
                "study.storage",
                "SQLite hands one enqueued trial to several askers, so it is not accepted; leave it out for a journal "
                "file in the study's folder, or give postgresql://USER@HOST/DATABASE",
            )
        ]
    scheme = url.split("://")[0]
    return [Fault("study.storage", f"'{scheme}' is not known; leave it out, or give postgresql://USER@HOST/DATABASE")]


def open_storage(url: str | None, journal: Path) -> BaseStorage:
    """The storage of a study, its journal's torn tail cut off.

    Raises:
        ConfigError: If the URL is not accepted.
        StudyError: If the storage cannot be opened.
    """
    if faults := storage_faults(url):
        raise ConfigError(faults)
    import optuna
    from optuna.storages import journal as optuna_journal

    optuna.logging.set_verbosity(logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    if url is not None:
        options = {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_S}}
        try:
            return optuna.storages.RDBStorage(with_driver(url), engine_kwargs=options)
        except Exception as err:  # SQLAlchemy's, the driver's and Optuna's own; none of them shares a base
            raise StudyError(f"study.storage: cannot be opened ({_first_line(err)}); is the server there?") from err
    # An append after a torn line would be glued to it, and every later reader would fail.
    rundir.repair_tail(journal)
    journal.parent.mkdir(parents=True, exist_ok=True)
    lock = optuna_journal.JournalFileSymlinkLock(str(journal), grace_period=LOCK_GRACE_S)
    return optuna.storages.JournalStorage(optuna_journal.JournalFileBackend(str(journal), lock_obj=lock))


@contextlib.contextmanager
def answering(where: str) -> Iterator[None]:
    """Turns what a storage fails with into our own errors; `where` says which storage, in words.

    Raises:
        StorageAwayError: If the server does not answer, ends the connection or refuses what it is told.
        DiskError: If the journal cannot be written.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with rundir.disk_told(Path(where)):
            yield
    except (StorageInternalError, SQLAlchemyError) as err:
        raise StorageAwayError(f"{where}: does not answer ({_first_line(err.__cause__ or err)})") from err


def _first_line(err: BaseException) -> str:
    return shown(next(iter(str(err).splitlines()), type(err).__name__))
