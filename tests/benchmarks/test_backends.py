"""Oracle: the losses of one process, which are in the same record."""

from __future__ import annotations

import pytest
from support.benchmark_scripts import measure


@pytest.mark.slow
def test_every_backend_is_measured_beside_one_process(tmp_path):
    record = measure("backends.py", "--rounds 1 --steps 3 --model tiny --backends single ddp", folder=tmp_path)
    assert [(row["method"], row["backend"], row["processes"]) for row in record["rows"]] == [
        ("lora", "single", 1),
        ("lora", "ddp", 2),
        ("full", "single", 1),
        ("full", "ddp", 2),
    ]
    assert [row["loss_difference_to_one_process"] for row in record["rows"]] == pytest.approx([0] * 4, abs=1e-5)
