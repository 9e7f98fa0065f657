"""Runs on GPUs: `make gpu`. Oracle: the same run on one of them, and what CUDA itself counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.groups import BACKENDS

from lora_bench.rundir import RunDir, find_run_dirs, read_lines

ROOT = Path(__file__).resolve().parents[1]
WORDS = ["model=tiny", "training.max_steps=6", "training.log_every=1", "training.dropout=0", "training.dtype=fp32"]
WORDS += ["training.batch_size=8", "task.num_validation=30", "task.num_eval=30"]

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, RunDir]:
    """Choice of `processes` -> its run; those of several processes where there are two GPUs."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    folder = tmp_path_factory.mktemp("gpu")
    names = ["single", *(BACKENDS if torch.cuda.device_count() > 1 else ())]
    words = [[*WORDS, f"processes={name}", f"paths.root={folder / name}"] for name in names]
    (folder / "runs.json").write_text(json.dumps(words), encoding="utf-8")
    command = [sys.executable, str(ROOT / "tests/support/groups.py"), str(folder / "runs.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert done.stdout.count("exit code 0") == len(words), done.stdout + done.stderr
    return {name: find_run_dirs(folder / name)[0] for name in names}


def test_memory_is_what_cuda_counts(trained):
    memory = trained["single"].read_result().memory
    assert memory.peak_tensor_bytes > memory.weight_bytes
    assert memory.peak_train_reserved_bytes >= memory.peak_tensor_bytes
    assert memory.peak_eval_allocated_bytes is not None
    assert trained["single"].read_result().provenance.fp32_products == "highest"


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_gpus_train_what_one_does(trained, backend):
    if backend not in trained:
        pytest.skip("needs two CUDA devices")
    alone, group = (losses(run) for run in (trained["single"], trained[backend]))
    assert group == pytest.approx(alone, abs=1e-4)
    assert trained[backend].read_result().processes.transport == "nccl"


def losses(run: RunDir) -> dict[int, float]:
    """Of each step."""
    lines = read_lines(run.metrics)
    return {line["step"]: line["metrics"]["train/loss"] for line in lines if "train/loss" in line["metrics"]}
