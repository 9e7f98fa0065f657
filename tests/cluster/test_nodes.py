"""Runs whose processes are on two nodes of a real Slurm. Oracle: the same run on one machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.studies import ROOT, last_of_each
from support.watching import wait_until

from lora_bench.rundir import RunDir, find_run_dirs, read_lines

pytestmark = pytest.mark.cluster

WORDS = [
    "model=tiny",
    "task.num_train=64",
    "task.num_validation=32",
    "task.num_eval=32",
    "task.max_length=16",
    "training.dtype=fp32",
]
WORDS += ["training.dropout=0", "training.log_every=1", "training.checkpoint_every=5", "training.batch_size=8"]
WORDS += ["lora.r=2", "tracking=none", "study.baseline=null", "processes.count=2"]
ON_SLURM = ["executor=slurm", "executor.cpus_per_task=1", "executor.mem_gb=2", "processes.nodes=2"]


def start(root: Path, cache: str, *words: str) -> subprocess.Popen[str]:
    own = last_of_each(*WORDS, f"paths.root={root}", f"paths.cache={cache}", *words)
    command = [sys.executable, "run.py", "-m", *own]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[str], root: Path) -> RunDir:
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    assert "1 finished" in out
    (run,) = find_run_dirs(root)
    return run


def losses(run: RunDir) -> dict[int, float]:
    told = ((line["step"], line["metrics"].get("train/loss")) for line in read_lines(run.metrics))
    return {step: loss for step, loss in told if loss is not None}


def member_on(node: int) -> psutil.Process:
    """The process that trains on a node: the last of the line that the node's task has started."""
    for process in psutil.process_iter(["cmdline"]):
        if "lora_bench.execution.job" not in (process.info["cmdline"] or []):
            continue
        line = process.children(recursive=True)
        if process.environ().get("SLURM_NODEID") == str(node) and len(line) >= 2:
            return max(line, key=lambda member: len(member.parents()))
    raise AssertionError(f"nothing trains on node {node}")


def test_two_nodes_train_what_two_processes_of_one_machine_do(slurm, tmp_path, cache):
    alone = finish(start(tmp_path / "alone", cache, "training.max_steps=8"), tmp_path / "alone")
    run = finish(start(tmp_path / "nodes", cache, "training.max_steps=8", *ON_SLURM), tmp_path / "nodes")
    assert losses(run) == pytest.approx(losses(alone), abs=1e-6)
    use = run.read_result().processes
    assert (use.count, use.nodes, len(use.memory)) == (2, 2, 2)
    assert run.path.name == alone.path.name


@pytest.mark.parametrize("node", [0, 1])
def test_a_process_that_is_killed_on_one_node_restarts_the_group_on_both(slurm, tmp_path, cache, node):
    root = tmp_path / "root"
    process = start(root, cache, "training.max_steps=300", "processes.timeout_s=20", *ON_SLURM)
    wait_until(lambda: any(len(losses(run)) >= 12 for run in find_run_dirs(root)), "no step was taken", limit_s=120)
    member_on(node).kill()
    run = finish(process, root)
    assert sorted(losses(run)) == list(range(1, 301))
    assert any("was lost" in note for note in run.read_result().notes)


def test_more_nodes_than_there_are_is_refused_at_once(slurm, tmp_path, cache):
    process = start(tmp_path / "root", cache, *ON_SLURM, "processes.nodes=8", "processes.count=8")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 2, out
    assert "the cluster offers main (the default): 4 nodes" in out
