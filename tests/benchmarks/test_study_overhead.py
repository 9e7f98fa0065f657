"""Oracle: the number of trials that were asked for, and what the benchmark itself calls whole and cheap."""

from __future__ import annotations

import pytest
from support.benchmark_scripts import measure


@pytest.mark.parametrize("sampler", ["grid", "random"])
def test_every_trial_is_carried_out_and_timed(tmp_path, sampler):
    # How long it took is not for a test to judge.
    words = f"--trials 30 --sampler {sampler}"
    found = measure("study_overhead.py", words, folder=tmp_path, out_option="--json", may_miss=True)
    assert found["trials"] == 30
    assert 0 < found["controller_per_trial_ms"] < 10_000
