"""Changes to the files of a run directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import yaml

from lora_bench.rundir import RunDir


def edit_config(run: RunDir, change: Callable[[dict[str, Any]], None]) -> None:
    """Writes `config.yaml` again, as `change` leaves it."""
    config = yaml.safe_load(run.config.read_text())
    change(config)
    run.config.write_text(yaml.safe_dump(config))


def edit_result(run: RunDir, **fields: Any) -> None:
    """Writes `result.json` again with other values."""
    run.result.write_text(json.dumps({**json.loads(run.result.read_text()), **fields}))
