"""Where Optuna keeps a study: a journal file by default, PostgreSQL by URL. Optuna is imported when it is opened."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from lora_bench import rundir
from lora_bench.errors import ConfigError, Fault, StudyError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

LOCK_GRACE_S = 10
"""Seconds after which the journal's lock is taken from a process that died with it; appends take milliseconds."""


def storage_faults(url: str | None) -> list[Fault]:
    """What is wrong with `study.storage`."""
    if url is None or url.startswith("postgresql"):
        return []
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
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        except Exception as err:  # SQLAlchemy's, the driver's and Optuna's own; none of them shares a base
            raise StudyError(f"study.storage: cannot be opened ({_first_line(err)}); is the server there?") from err
    # An append after a torn line would be glued to it, and every later reader would fail.
    rundir.repair_tail(journal)
    journal.parent.mkdir(parents=True, exist_ok=True)
    lock = optuna_journal.JournalFileSymlinkLock(str(journal), grace_period=LOCK_GRACE_S)
    return optuna.storages.JournalStorage(optuna_journal.JournalFileBackend(str(journal), lock_obj=lock))


def _first_line(err: Exception) -> str:
    return next(iter(str(err).splitlines()), type(err).__name__)
