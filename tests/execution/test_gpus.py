"""A GPU for each slot. Oracle: what a process that is given the variable would see."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lora_bench.errors import ExecutionError
from lora_bench.execution.gpus import VISIBLE, take_gpus, visible_gpus


@pytest.mark.parametrize(
    ("listed", "slot", "count", "taken"),
    [
        ("0,1,2,3", 2, 1, "2"),
        ("4,6", 1, 1, "6"),
        ("4,6", 2, 1, "4"),
        ("GPU-aa, GPU-bb", 1, 1, "GPU-bb"),
        ("MIG-1", 5, 1, "MIG-1"),
        ("0,1,2,3", 0, 2, "0,1"),
        ("0,1,2,3", 1, 2, "2,3"),
        ("0,1,2", 1, 2, "2,0"),
    ],
)
def test_a_slot_takes_its_own_of_the_listed_gpus(monkeypatch, listed, slot, count, taken):
    monkeypatch.setenv(VISIBLE, listed)
    take_gpus(slot, count)
    assert os.environ[VISIBLE] == taken


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv(VISIBLE, "0,1")
    with pytest.raises(ExecutionError, match="4 processes on one machine, one GPU each, but it has 2"):
        take_gpus(0, 4)


@pytest.mark.parametrize("listed", ["", "-1"])
def test_gpus_that_were_hidden_stay_hidden(monkeypatch, listed):
    monkeypatch.setenv(VISIBLE, listed)
    take_gpus(1)
    assert os.environ[VISIBLE] == listed


def test_without_a_gpu_nothing_is_set(monkeypatch):
    import torch

    if torch.cuda.device_count():
        pytest.skip("this machine has a GPU")
    monkeypatch.delenv(VISIBLE, raising=False)
    assert visible_gpus() == []
    take_gpus(0)
    assert VISIBLE not in os.environ


def test_two_runs_at_a_time_see_two_gpus(tmp_path):
    # A process of its own: the server that runs are forked from has the environment that it was started with.
    script = Path(__file__).parents[1] / "support" / "tell_gpus.py"
    environment = os.environ | {VISIBLE: "GPU-aa,GPU-bb"}
    subprocess.run([sys.executable, str(script), str(tmp_path)], env=environment, check=True, timeout=60)
    assert [(tmp_path / f"{slot}.txt").read_text() for slot in (0, 1)] == ["GPU-aa", "GPU-bb"]
