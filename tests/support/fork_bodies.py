"""Bodies of forked processes, each with a folder to tell in and to be told in."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from lora_bench.execution.local import enter_group, stop_on_signals


def tell(folder: Path, name: str = "began") -> None:
    """Writes this process's number into a file."""
    (folder / f"{name}.partial").write_text(str(os.getpid()))
    (folder / f"{name}.partial").rename(folder / name)


def nothing(folder: Path) -> None:
    """Ends at once."""


def wait_for_go(folder: Path) -> None:
    """Ends with exit code 3 when the file `go` is there."""
    tell(folder)
    while not (folder / "go").exists():
        time.sleep(0.01)
    sys.exit(3)


def listen_late(folder: Path) -> None:
    """Tells that it has begun, and listens for signals later; exit code 4 for one that came before."""
    enter_group()
    tell(folder)
    time.sleep(0.5)
    with stop_on_signals() as stop:
        time.sleep(0.05)
        sys.exit(4 if stop.is_requested() else 5)


def stay(folder: Path) -> None:
    """Takes no step and hears nothing."""
    enter_group()
    tell(folder)
    time.sleep(600)
