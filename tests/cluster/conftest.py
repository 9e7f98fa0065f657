"""A real Slurm of four nodes and a real Ray of two on this machine, and studies whose runs are their jobs and tasks."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.loopback import Loopback
from support.studies import PretendedStudy
from support.watching import wait_until

from lora_bench.execution import cluster

HERE = Path(__file__).parent
PRETENDED = [
    "model=tiny",
    "task.num_train=64",
    "task.num_validation=32",
    "task.num_eval=32",
    "tracking=none",
    "study.baseline=null",
]
PRETENDED += ["training.eval_every=5", "training.checkpoint_every=5", "training.log_every=1", "study.name=mine"]
RAY_HEAD = "127.0.0.1:6379"


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    """Left running: starting it takes seconds, and `slurm-down.sh` stops it. Two sessions take it in turn."""
    if os.getuid() != 0:
        pytest.skip("a Slurm of our own needs root; tests/cluster/slurm-up.sh says what it does")
    if shutil.which("slurmctld") is None and shutil.which("apt-get") is None:
        pytest.skip("no Slurm here, and no Debian to install it from")
    root = os.environ.get("SLURM_ROOT", "/tmp/lora-bench-slurm")
    with open(f"{root}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run([str(HERE / "slurm-up.sh")], capture_output=True, text=True, check=False)
        if done.returncode == os.EX_UNAVAILABLE:
            pytest.skip(done.stderr)
        assert done.returncode == 0, done.stderr
        os.environ["SLURM_CONF"] = f"{root}/etc/slurm.conf"
        empty_queue()
        yield


def empty_queue() -> None:
    """Takes out what a test, or a session that was killed, has left there."""
    subprocess.run(["scancel", "--me"], check=True)
    wait_until(lambda: not cluster.ALIVE & set(cluster.queue().values()), "jobs are left in the queue")


@pytest.fixture
def study(slurm: None, tmp_path: Path, cache: str) -> Iterator[PretendedStudy]:
    """A study of short pretended runs, each a job; what it left in the queue is taken out."""
    words = [*PRETENDED, f"paths.cache={cache}", "executor=slurm", "executor.cpus_per_task=1", "executor.mem_gb=1"]
    # Controllers that outlived a killed session would try again what the next one takes out of the queue.
    yield PretendedStudy(tmp_path / "root", words, prefix=["setpriv", "--pdeathsig=KILL"])
    empty_queue()


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Loopback]:
    """A Ray of a node with two CPUs and one with a CPU and two GPUs, in a namespace that has loopback alone."""
    pytest.importorskip("ray")
    if not Loopback.is_possible():
        pytest.skip("Ray listens on every interface; a namespace without them needs root, and unshare")
    loopback = Loopback()
    assert [line.split(":")[1].strip() for line in loopback.run("ip", "-o", "link").splitlines()] == ["lo"]
    ray = [str(Path(sys.executable).with_name("ray")), "start"]
    quiet = ["--node-ip-address=127.0.0.1", "--disable-usage-stats", "--object-store-memory=80000000"]
    loopback.run(*ray, "--head", "--port=6379", "--num-cpus=2", "--num-gpus=0", *quiet, "--include-dashboard=false")
    loopback.run(*ray, f"--address={RAY_HEAD}", "--num-cpus=1", "--num-gpus=2", *quiet)
    yield loopback
    loopback.close()


@pytest.fixture
def ray_study(ray_cluster: Loopback, tmp_path: Path, cache: str) -> PretendedStudy:
    """A study of short pretended runs, each a task."""
    words = [*PRETENDED, f"paths.cache={cache}", "executor=ray", "executor.cpus_per_task=1", "executor.mem_gb=1"]
    return PretendedStudy(tmp_path / "root", words, prefix=ray_cluster.prefix)
