"""Runs a script of `benchmarks/` as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


def measure(script: str, words: str, *, folder: Path, out_option: str = "--out", may_miss: bool = False) -> Any:
    """The record that `benchmarks/SCRIPT` writes; `may_miss` where its exit code says whether an aim was met."""
    out = folder / "record.json"
    done = subprocess.run(
        [sys.executable, f"benchmarks/{script}", *words.split(), out_option, str(out)],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert may_miss or done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text(encoding="utf-8"))
