"""What an MLflow database holds, read with SQL: an oracle that shares no code with the client that wrote it."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

from lora_bench.rundir import RunDir


def rows(root: Path | str, query: str) -> list[tuple[Any, ...]]:
    """The answer to a query to the store of a root, or to a PostgreSQL database by its URL."""
    if isinstance(root, str):
        import psycopg

        with psycopg.connect(root) as connection:
            return connection.execute(query).fetchall()
    with contextlib.closing(sqlite3.connect(root / "mlflow.db")) as database:
        return database.execute(query).fetchall()


NAMED = """(SELECT *, COALESCE((SELECT value FROM tags t WHERE t.run_uuid = runs.run_uuid
    AND t.key IN ('lora_bench.run_dir', 'lora_bench.study')), name) AS known_as FROM runs) r"""
"""Runs by the name of their directory or study; those without one by their own."""


def run_names(root: Path | str) -> Counter[str]:
    """How often each run is there, by the name of its directory; studies by their own."""
    return Counter(name for (name,) in rows(root, f"SELECT known_as FROM {NAMED} WHERE lifecycle_stage = 'active'"))


def points(root: Path | str, run: RunDir, prefix: str = "") -> Counter[tuple[str, int, int, float]]:
    """(metric, step, timestamp, value) of every stored point of a run; NaN as None."""
    found = rows(
        root,
        "SELECT m.key, m.step, m.timestamp, CASE WHEN m.is_nan THEN NULL ELSE m.value END FROM metrics m"
        f" JOIN {NAMED} ON r.run_uuid = m.run_uuid WHERE r.known_as = '{run.path.name}' AND m.key LIKE '{prefix}%'",
    )
    return Counter(found)


def told_points(run: RunDir, prefix: str = "") -> Counter[tuple[str, int, int, float]]:
    """The same from `metrics.jsonl`."""
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    told = [
        (key, line["step"], line["timestamp_ms"], None if value is None or math.isnan(value) else value)
        for line in lines
        for key, value in line["metrics"].items()
        if key.startswith(prefix)
    ]
    return Counter(told)


def run_id(root: Path | str, name: str) -> str:
    """MLflow's own name of a run that is there once."""
    ((found,),) = rows(root, f"SELECT r.run_uuid FROM {NAMED} WHERE r.known_as = '{name}'")
    return str(found)


def tags(root: Path | str, name: str) -> dict[str, str]:
    """Tags of the run of this name."""
    return dict(rows(root, f"SELECT key, value FROM tags WHERE run_uuid = '{run_id(root, name)}'"))


def params(root: Path | str, name: str) -> dict[str, str]:
    """Parameters of the run of this name."""
    return dict(rows(root, f"SELECT key, value FROM params WHERE run_uuid = '{run_id(root, name)}'"))


def table_sizes(root: Path | str) -> dict[str, int]:
    """Rows of every table that a sync writes to."""
    tables = ("runs", "metrics", "latest_metrics", "params", "tags", "datasets", "inputs", "experiments")
    return {table: rows(root, f"SELECT count(*) FROM {table}")[0][0] for table in tables}
