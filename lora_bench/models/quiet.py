"""Keeps what transformers tells about loading out of a user's terminal."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides progress bars, reports and advice of transformers; errors still raise.

    What such a report says about missing or dropped weights is checked by `load.load_model` itself.
    """
    from transformers.utils import logging as theirs

    quieten_deepspeed()
    verbosity = theirs.get_verbosity()
    had_bars = theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(verbosity)
        if had_bars:
            theirs.enable_progress_bar()


def quieten_deepspeed() -> None:
    """Drop what DeepSpeed says on stdout of a machine without a GPU whenever a library imports it.

    To be called before that import. Its logger is made by name, so that a filter set earlier holds.
    """
    logger = logging.getLogger("DeepSpeed")
    if _is_of_use not in logger.filters:
        logger.addFilter(_is_of_use)


def _is_of_use(record: logging.LogRecord) -> bool:
    return "Setting accelerator to CPU" not in str(record.msg)
