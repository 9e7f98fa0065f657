"""A sync as a process of its own."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

from lora_bench.rundir import find_run_dirs
from lora_bench.tracking import MlflowTracker


def sync_all(root: Path) -> None:
    """Everything in the root, as the members of one study."""
    MlflowTracker(root=root).sync(find_run_dirs(root), study="ranks", finished=True)


def start_sync(root: Path) -> Any:
    """Starts `sync_all` in a process that has MLflow imported already, so that a kill hits the sync."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lora_bench.tracking.tracker", "mlflow.store.tracking.sqlalchemy_store"])
    process = context.Process(target=sync_all, args=(root,))
    process.start()
    return process
