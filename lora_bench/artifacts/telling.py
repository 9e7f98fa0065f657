"""Words of progress for commands that take a while: what is being done, on stderr, so that stdout holds results."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

Tell = Callable[[str], None]
"""Takes what is being done now, `loading the base`."""


def silent(text: str) -> None:
    """Tell nobody."""


@contextlib.contextmanager
def telling(command: str) -> Iterator[Tell]:
    """Give a function that tells on stderr what a command is doing: in place in a terminal, else a line each."""
    if not sys.stderr.isatty():
        yield lambda text: print(f"{command}: {text}", file=sys.stderr, flush=True)
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{command}: starting") as status:
        yield lambda text: status.update(f"{command}: {text}")
