"""Studies on a real Ray. Oracles: the same study on this machine; what was asked for, each run once with every step."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest
from support.loopback import inner_process
from support.studies import ROOT
from support.watching import check_each_once, finish, wait_for_step, wait_until

from lora_bench.execution.local import SAME_S

pytestmark = pytest.mark.cluster


def losses(root):
    """Name of each run -> the losses that it logged, and its score."""
    results = {path.parent.name: json.loads(path.read_text()) for path in root.glob("runs/*/result.json")}
    lines = {name: (root / "runs" / name / "metrics.jsonl").read_text().splitlines() for name in results}
    points = {name: [json.loads(line)["metrics"] for line in lines[name]] for name in results}
    curves = {name: [point["train/loss"] for point in points[name] if "train/loss" in point] for name in results}
    return {name: (curves[name], results[name]["scores"]) for name in results}


def test_the_same_grid_gives_the_same_trials_and_losses_as_on_this_machine(ray_cluster, tmp_path, cache):
    words = [
        "model=tiny",
        "task.num_train=64",
        "task.num_validation=32",
        "task.num_eval=32",
        "task.max_length=16",
        "training.max_steps=6",
    ]
    words += ["training.log_every=1", "lora.r=1,2", "seed=0,1", "tracking=none", f"paths.cache={cache}"]
    there = ["executor=ray", "executor.address=auto", "executor.cpus_per_task=1", "executor.mem_gb=1", "study.n_jobs=3"]
    here = ["executor.threads_per_run=1", "study.n_jobs=2"]
    for root, prefix, own in ((tmp_path / "ray", ray_cluster.prefix, there), (tmp_path / "local", [], here)):
        command = [*prefix, sys.executable, "run.py", "-m", *words, *own, f"paths.root={root}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    found = losses(tmp_path / "ray")
    assert len(found) == 6
    assert {len(curve) for curve, _ in found.values()} == {6}
    assert found == losses(tmp_path / "local")


@pytest.mark.parametrize("victim", ["run", "worker"])
def test_what_was_killed_is_tried_again_by_us_and_goes_on(ray_cluster, ray_study, victim):
    process = ray_study.start("lora.r=1", "training.max_steps=400")
    run = wait_for_step(ray_study, process, 7)
    pid = run.read_status()["pid"]
    if victim == "run":
        ray_cluster.run("kill", "-9", str(pid))
    else:
        ray_cluster.run("pkill", "-9", "--full", "ray::carry_out")
    out = finish(process)
    assert "retry 1 of 2" in out
    assert ("killed by signal 9" if victim == "run" else "Ray: The worker died unexpectedly") in out
    assert run.read_status()["pid"] != pid
    check_each_once(ray_study, num_runs=1, num_steps=400)


def test_a_controller_that_was_killed_leaves_runs_that_the_next_one_takes_up(ray_study):
    words = ["lora.r=1,2", "study.n_jobs=2", "training.max_steps=400"]
    process = ray_study.start(*words)
    run = wait_for_step(ray_study, process, 7)
    inner_process(process).kill()
    process.communicate()
    wait_until(lambda: not any(run.is_held() for run in ray_study.runs()), "the runs did not end", limit_s=20)
    assert 5 <= int((run.checkpoints / "step.json").read_text()) < 400
    out = ray_study.finish(*words)
    assert "retry" not in out
    check_each_once(ray_study, num_runs=2, num_steps=400)


def test_ctrl_c_checkpoints_what_runs_and_takes_back_what_waits(ray_study):
    # Three fit.
    words = ["lora.r=1,2,3,4,5,6", "study.n_jobs=6", "training.max_steps=800", "training.checkpoint_every=0"]
    process = ray_study.start(*words)
    wait_until(lambda: sum(run.status.exists() for run in ray_study.runs()) == 3, "three did not begin")
    inner_process(process).send_signal(signal.SIGINT)
    out = finish(process, code=130)
    assert out.count("stopped after a checkpoint; the same command goes on") == 6
    assert sum((run.checkpoints / "step.json").exists() for run in ray_study.runs()) == 3
    ray_study.finish(*words)
    check_each_once(ray_study, num_runs=6, num_steps=800)


def test_a_second_ctrl_c_ends_them_at_once(ray_study):
    process = ray_study.start("lora.r=1", "training.max_steps=4000")
    run = wait_for_step(ray_study, process, 7)
    inner = inner_process(process)
    # A run that hangs hears no request.
    (trainer,) = [one for one in psutil.process_iter() if is_trainer(one, run)]
    trainer.suspend()
    inner.send_signal(signal.SIGINT)
    wait_until(lambda: run.job_stop.exists(), "it was not asked to stop")
    time.sleep(SAME_S + 0.1)
    inner.send_signal(signal.SIGINT)
    out = finish(process, code=130)
    assert "ended at once on request" in out
    wait_until(lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE, "it lives", limit_s=15)


def is_trainer(process, run):
    """Whether it holds the run's lock open."""
    try:
        return any(file.path == str(run.lock) for file in process.open_files())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("executor.cpus_per_task=3", "a run asks for 3 CPUs, 0 GPUs, 1 GiB, and no node has all of it"),
        ("executor.gpus_per_node=3", "a run asks for 1 CPUs, 3 GPUs, 1 GiB, and no node has all of it"),
    ],
)
def test_a_request_that_could_never_run_is_refused_with_what_there_is(ray_study, word, said):
    out = ray_study.finish("lora.r=1", word, code=2)
    assert said in out
    assert "the cluster offers 1 node of 2 CPUs, " in out
    assert "1 node of 1 CPUs, 2 GPUs, " in out
    assert ray_study.runs() == []


def test_a_run_that_wants_a_gpu_waits_for_the_node_that_has_them(ray_study):
    # Four CPUs would be there; the GPUs are with the node of one.
    out = ray_study.finish("lora.r=1,2", "executor.gpus_per_node=1", "study.n_jobs=2", "training.max_steps=20")
    assert out.count(": started") == 2
    check_each_once(ray_study, num_runs=2, num_steps=20)


def test_what_the_cluster_offers_and_would_be_asked(ray_cluster, tmp_path):
    words = [sys.executable, "-m", "lora_bench.cli", "doctor", "--cluster", "--root", str(tmp_path), "--json"]
    answers = {}
    for asked in (1, 3):
        ray = ["executor=ray", "executor.cpus_per_task=1", f"executor.gpus_per_node={asked}"]
        done = subprocess.run([*ray_cluster.prefix, *words, *ray], capture_output=True, text=True, check=False)
        assert done.returncode == (asked == 3), done.stderr
        answers[asked] = {check["name"]: check for check in json.loads(done.stdout)}
    assert [(node["cpus"], node["gpus"]) for node in answers[1]["Ray"]["data"]["nodes"]] == [(2, 0), (1, 2)]
    assert answers[1]["a run"]["answer"] == "1 CPUs, 1 GPUs, 4 GiB; Ray would run it"
    assert "and no node has all of it" in answers[3]["a run"]["advice"]
