"""The console that commands print on: as wide as the terminal, and without an end where there is none."""

from __future__ import annotations

from typing import IO

from rich.console import Console

UNBOUNDED = 10_000
"""Columns where nobody looks at a screen: a pipe, a file, a log. Rich would fold and cut at 80."""


def build_console(file: IO[str] | None = None) -> Console:
    """Return a console on `file`, or on standard output."""
    console = Console(file=file, markup=False)
    return console if console.is_terminal else Console(file=file, width=UNBOUNDED, markup=False)
