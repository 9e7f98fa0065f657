"""Oracle: the number of trials that were asked for, and what the benchmark itself calls whole and cheap."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("sampler", ["grid", "random"])
def test_every_trial_is_carried_out_and_timed(tmp_path, sampler):
    out = tmp_path / "overhead.json"
    subprocess.run(
        [sys.executable, "benchmarks/study_overhead.py", "--trials", "30", "--sampler", sampler, "--json", str(out)],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,  # how long it took is not for a test to judge
        timeout=120,
    )
    found = json.loads(out.read_text())
    assert found["trials"] == 30
    assert 0 < found["controller_per_trial_ms"] < 10_000
