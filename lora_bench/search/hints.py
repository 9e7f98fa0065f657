"""Commands that are printed to be copied: quoted for a shell, and with the root unless it is the default one."""

from __future__ import annotations

import shlex
from pathlib import Path

DEFAULT_ROOT = "outputs"


def root_option(root: Path) -> str:
    """Return ` --root DIR`, or nothing where a command started here looks there by itself."""
    return "" if root.absolute() == Path(DEFAULT_ROOT).absolute() else f" --root {shlex.quote(str(root))}"


def study_command(name: str, root: Path) -> str:
    """Return the command that shows a study."""
    return f"lora-bench study {shlex.quote(name)}{root_option(root)}"
