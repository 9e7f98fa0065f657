"""A fresh MLflow store for each test, copied from one that is made once a session: making one takes seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lora_bench.tracking.mlflow import MlflowStore
from lora_bench.tracking.store import store_uri


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables."""
    root = tmp_path_factory.mktemp("store")
    MlflowStore(store_uri(None, root), root=root, experiment="template")
    return root / "mlflow.db"


@pytest.fixture
def root(tmp_path: Path, empty_store: Path) -> Path:
    """A root with an empty store in it."""
    folder = tmp_path / "root"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder
