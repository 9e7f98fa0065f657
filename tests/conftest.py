"""What every test stands on: no network, one thread, nothing written outside its own folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from support.postgres import PostgresServer, find_binaries, server_folder

from lora_bench.config.overrides import compose_config
from lora_bench.config.resolve import resolve
from lora_bench.config.schema import RunConfig


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tokenised texts, shared by the tests of one worker."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, to be copied: making one takes seconds."""
    from lora_bench.tracking.mlflow import MlflowStore
    from lora_bench.tracking.store import store_uri

    root = tmp_path_factory.mktemp("store")
    MlflowStore(store_uri(None, root), root=root, experiment="template")
    return root / "mlflow.db"


@pytest.fixture
def tiny(tmp_path, cache):  # type: ignore[no-untyped-def]
    """Resolves a run of the tiny random model on a few tweets, with further overrides; trains in a second."""

    def make(*overrides: str) -> RunConfig:
        return resolve(
            compose_config(
                [
                    "model=tiny",
                    "task.num_train=64",
                    "task.num_validation=32",
                    "task.num_eval=32",
                    "task.max_length=16",
                    "training.max_steps=6",
                    "training.batch_size=8",
                    "training.eval_every=3",
                    "training.checkpoint_every=2",
                    "training.log_every=1",
                    "lora.r=2",
                    "tracking=none",
                    f"paths.root={tmp_path}/root",
                    f"paths.cache={cache}",
                    "executor.threads_per_run=1",
                    *overrides,
                ]
            )
        )

    return make


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """A server that the test may stop and start."""
    pytest.importorskip("psycopg")
    if find_binaries() is None:
        pytest.skip("no PostgreSQL server here; `apt-get install postgresql`, as .ci/run does")
    folder = server_folder()
    try:
        server = PostgresServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
