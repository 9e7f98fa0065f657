"""A root with a fresh MLflow store for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path, empty_store: Path) -> Path:
    """A root with an empty store in it."""
    folder = tmp_path / "root"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder
