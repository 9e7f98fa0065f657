"""A real Slurm of four nodes on this machine, started once for all tests, and studies whose runs are its jobs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.studies import PretendedStudy

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def slurm() -> None:
    """Left running: starting it takes seconds, and `slurm-down.sh` stops it."""
    if os.getuid() != 0:
        pytest.skip("a Slurm of our own needs root; tests/cluster/slurm-up.sh says what it does")
    if shutil.which("slurmctld") is None and shutil.which("apt-get") is None:
        pytest.skip("no Slurm here, and no Debian to install it from")
    done = subprocess.run([str(HERE / "slurm-up.sh")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    root = os.environ.get("SLURM_ROOT", "/tmp/lora-bench-slurm")
    os.environ["SLURM_CONF"] = f"{root}/etc/slurm.conf"


@pytest.fixture
def study(slurm: None, tmp_path: Path, cache: str) -> Iterator[PretendedStudy]:
    """A study of short pretended runs, each a job; what it left in the queue is taken out."""
    words = ["model=tiny", "task.num_train=64", "task.num_eval=32", "tracking=none", f"paths.cache={cache}"]
    words += ["training.eval_every=5", "training.checkpoint_every=5", "training.log_every=1", "study.baseline=null"]
    words += ["executor=slurm", "executor.cpus_per_task=1", "executor.mem_gb=1", "study.name=mine"]
    yield PretendedStudy(tmp_path / "root", words)
    subprocess.run(["scancel", "--me"], check=True)
