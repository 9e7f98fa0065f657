"""Studies whose runs pretend to train, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pretended_study(tmp_path: Path, cache: str) -> Callable[..., str]:
    """Carries a study with these words out, in `tmp_path/root`; returns what it said."""
    common = ["model=tiny", "task.num_train=64", "task.num_eval=32", "training.log_every=5", "tracking=none"]
    common += ["executor.threads_per_run=1", f"paths.root={tmp_path}/root", f"paths.cache={cache}"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}

    def carry_out(*words: str, code: int = 0) -> str:
        command = [sys.executable, str(ROOT / "tests/support/pretend_study.py"), *common, *words]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return carry_out
