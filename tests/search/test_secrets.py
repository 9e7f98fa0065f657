"""A study whose URLs carry passwords leaves none of them anywhere. Oracle: the bytes of the whole root."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from support.studies import ROOT

from lora_bench import cli

STORAGE_PASSWORD, TRACKING_PASSWORD, PARAMETER = (
    "st0rage-horse-battery",
    "tr%61cking-horse-battery",
    "param-horse-battery",
)
SECRETS = (STORAGE_PASSWORD, TRACKING_PASSWORD, "tracking-horse-battery", PARAMETER)


def with_password(url, password):
    return url.replace("postgresql://postgres@", f"postgresql://postgres:{password}@")


def files_with_secrets(root: Path) -> list[str]:
    found = []
    for path in root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found += [f"{path}: {secret}" for secret in SECRETS if secret.encode() in content]
    return found


def rows_with_secrets(url: str) -> list[str]:
    found = []
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            text = str(connection.execute(f'SELECT * FROM "{table}"').fetchall())  # names from the catalogue
            found += [f"{table}: {secret}" for secret in SECRETS if secret in text]
    return found


@pytest.mark.parametrize("has_tracking", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_search_on_servers_with_passwords_leaves_none_on_disk_or_in_them(study, postgres, capsys, has_tracking):
    """MLflow alone needs a minute to make its tables and to take a run, hence the version without it."""
    optuna, mlflow = postgres.url("optuna"), postgres.url("mlflow")
    tracking = [
        "tracking=mlflow",
        f"tracking.uri='{with_password(mlflow, TRACKING_PASSWORD)}?password={PARAMETER}'",
    ]
    words = [
        "training.lr=tag(log,interval(1e-4,1e-2))",
        "study.name=secret",
        "study.n_trials=1",
        "study.baseline=null",
        f"study.storage='{with_password(optuna, STORAGE_PASSWORD)}?application_name=x'",
        *(tracking if has_tracking else []),
    ]
    said = study.finish(*words)
    assert not [secret for secret in SECRETS if secret in said]
    again = study.finish(*words)
    assert "1 runs, 1 recorded already, 0 to do" in again  # the same command finds its study
    for name in ("config.yaml", "study.yaml", "trials.jsonl", "result.json", "lock"):
        assert list(study.root.rglob(name)), name
    assert files_with_secrets(study.root) == []
    assert rows_with_secrets(optuna) == []
    assert rows_with_secrets(mlflow) == []
    recorded = study.directory.read_question()["command"]
    assert f"study.storage='{optuna}?application_name=x'" in recorded
    assert (f"tracking.uri='{mlflow}'" in recorded) is has_tracking
    # What is recorded works where the password comes from the environment or ~/.pgpass, as for `rebuild` and `retry`.
    assert cli.main(["rebuild", "secret", "--root", str(study.root)]) == 0
    capsys.readouterr()


def test_a_grid_on_a_store_that_is_away_says_no_password(study):
    said = study.finish(
        "lora.r=1", "study.baseline=null", "tracking=mlflow", f"tracking.uri=http://me:{STORAGE_PASSWORD}@127.0.0.1:9"
    )
    assert "does not answer" in said
    assert STORAGE_PASSWORD not in said
    assert files_with_secrets(study.root) == []


@pytest.mark.parametrize(
    "words",
    [
        [f"study.storage=mysql://me:{STORAGE_PASSWORD}@db/x", "-m"],
        [f"tracking.uri=ftp://me:{STORAGE_PASSWORD}@db/x", "tracking=mlflow"],
        [f"tracking.urj=http://me:{STORAGE_PASSWORD}@db/x"],
        [f"postgresql://me:{STORAGE_PASSWORD}@db/x"],
        [f"--storage=postgresql://me:{STORAGE_PASSWORD}@db/x"],
    ],
)
def test_a_refusal_says_no_password(words, tmp_path):
    command = [sys.executable, "run.py", "model=tiny", "training.max_steps=1", f"paths.root={tmp_path}/root", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert STORAGE_PASSWORD not in done.stdout + done.stderr
    assert not (tmp_path / "root").exists() or files_with_secrets(tmp_path / "root") == []
