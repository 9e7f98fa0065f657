"""Studies on a real Slurm. Oracle: what was asked for, each run once with every step, whatever happened to its job."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.studies import ROOT
from support.watching import check_each_once, finish, wait_for_step, wait_until

from lora_bench import cli
from lora_bench.errors import ExecutionError
from lora_bench.execution import cluster

pytestmark = pytest.mark.cluster
SLURM_UP = Path(__file__).parent / "slurm-up.sh"


def job_of(run):
    return json.loads(run.job.read_text())["job_id"]


def node_of(run):
    return cluster.ask("squeue", "--noheader", "--states=all", "--jobs", job_of(run), "--format=%N").strip()


def pid_of_daemon(name):
    return int((Path(os.environ["SLURM_CONF"]).parents[1] / "run" / f"{name}.pid").read_text())


def test_runs_are_jobs_named_after_study_and_trial_and_log_in_their_directories(study):
    process = study.start("lora.r=1,2,4", "study.n_jobs=3", "training.max_steps=100")
    run = wait_for_step(study, process, 3)
    names = cluster.ask("squeue", "--me", "--noheader", "--format=%j").split()
    assert f"mine:{run.path.name}" in names
    out = finish(process)
    assert out.count(": started") == 3
    check_each_once(study, num_runs=3, num_steps=100)
    assert all(run.log.exists() for run in study.runs())


def test_a_controller_that_was_killed_takes_its_jobs_up_again(study):
    words = ["lora.r=1,2", "study.n_jobs=2", "training.max_steps=400"]
    process = study.start(*words)
    run = wait_for_step(study, process, 3)
    process.kill()
    process.communicate()
    job_id = job_of(run)
    assert cluster.queue()[job_id] == "RUNNING"
    out = study.finish(*words)
    assert "its job goes on" in out
    assert "retry" not in out
    assert job_of(run) == job_id
    check_each_once(study, num_runs=2, num_steps=400)


@pytest.mark.parametrize("way", ["kill -9 of the run", "kill -9 of the job's task", "scancel"])
def test_a_run_that_was_killed_without_a_word_is_noticed_in_seconds_and_tried_again(study, way):
    process = study.start("lora.r=1", "training.max_steps=400")
    run = wait_for_step(study, process, 7)
    job_id = job_of(run)
    if way == "scancel":
        cluster.end([job_id])
    elif way == "kill -9 of the run":
        os.kill(int(run.read_status()["pid"]), signal.SIGKILL)
    else:
        cluster.send_signal(job_id, "KILL")
    wait_until(lambda: job_of(run) != job_id, "the end was not noticed", limit_s=15)
    finish(process)
    check_each_once(study, num_runs=1, num_steps=400)


def test_a_job_whose_time_is_over_checkpoints_and_is_queued_again(study):
    process = study.start("lora.r=1", "training.max_steps=400", "training.checkpoint_every=0")
    run = wait_for_step(study, process, 7)
    job_id = job_of(run)
    # What Slurm sends `signal_delay_s` before the time limit.
    cluster.send_signal(job_id, "USR2")
    wait_until(lambda: cluster.queue()[job_id] == "PENDING", "not queued again")
    (checkpoint,) = run.checkpoints.iterdir()
    assert checkpoint.name == "step.json"
    out = finish(process)
    assert job_of(run) == job_id
    assert "retry" not in out
    check_each_once(study, num_runs=1, num_steps=400)


def test_a_node_that_goes_down_is_no_failure_of_the_run(study):
    process = study.start("lora.r=1", "training.max_steps=600")
    run = wait_for_step(study, process, 7)
    node = node_of(run)
    cluster.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    time.sleep(3)
    with contextlib.suppress(ExecutionError):  # it may have come back by itself
        cluster.ask("scontrol", "update", f"nodename={node}", "state=resume")
    finish(process)
    check_each_once(study, num_runs=1, num_steps=600)


@pytest.mark.parametrize("is_given_up", [False, True])
def test_a_run_whose_slurmd_was_killed_goes_on_and_is_not_begun_twice(study, is_given_up):
    process = study.start("lora.r=1", "training.max_steps=1000")
    run = wait_for_step(study, process, 7)
    node, pid = node_of(run), run.read_status()["pid"]
    os.kill(pid_of_daemon(f"slurmd.{node}"), signal.SIGKILL)
    if is_given_up:
        # As Slurm does after its SlurmdTimeout: the job is queued again, while nobody is left to end the first.
        cluster.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        wait_until(lambda: node_of(run) not in ("", node), "not started on another node")
    out = finish(process)
    subprocess.run([str(SLURM_UP)], check=True, capture_output=True)
    assert "retry" not in out
    assert run.read_status()["pid"] == pid
    check_each_once(study, num_runs=1, num_steps=1000)


def test_a_job_that_gives_way_to_a_higher_partition_goes_on_later(study):
    process = study.start("lora.r=1", "training.max_steps=600", "executor.partition=low")
    run = wait_for_step(study, process, 7)
    job_id = job_of(run)
    hogs = ["sbatch", "--parsable", "--partition=main", "--exclusive", "--output=/dev/null", "--wrap=sleep 6"]
    for _ in range(4):
        subprocess.run(hogs, check=True, capture_output=True)
    wait_until(lambda: cluster.queue()[job_id] == "PENDING", "it did not give way")
    finish(process)
    check_each_once(study, num_runs=1, num_steps=600)


def test_slurmctld_that_is_restarted_loses_nothing(study):
    process = study.start("lora.r=1,2", "study.n_jobs=2", "training.max_steps=600")
    wait_for_step(study, process, 7)
    os.kill(pid_of_daemon("slurmctld"), signal.SIGTERM)
    time.sleep(2)
    subprocess.run(["slurmctld"], check=True)
    out = finish(process)
    assert "retry" not in out
    check_each_once(study, num_runs=2, num_steps=600)


def test_ctrl_c_checkpoints_what_runs_and_takes_out_what_waits(study):
    # Eight jobs fit; two wait.
    words = ["lora.r=1,2,3,4,5,6,7,8,9,10", "study.n_jobs=10", "training.max_steps=600", "training.checkpoint_every=0"]
    process = study.start(*words)
    wait_for_step(study, process, 7)
    process.send_signal(signal.SIGINT)
    out = finish(process, code=130)
    assert out.count("stopped after a checkpoint; the same command goes on") >= 8
    assert not [job for job, state in cluster.queue().items() if state in cluster.ALIVE]
    study.finish(*words)
    check_each_once(study, num_runs=10, num_steps=600)


def test_short_trials_share_an_allocation(study):
    words = ["lora.r=1,2,3,4", "study.n_jobs=4", "executor.trials_per_job=2", "training.max_steps=50"]
    study.finish(*words)
    check_each_once(study, num_runs=4, num_steps=50)
    assert len({job_of(run) for run in study.runs()}) == 2


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("executor.partition=gpu", "Invalid partition name specified"),
        ("executor.gpus_per_node=9", "node configuration is not available"),
        ("executor.cpus_per_task=64", "More processors requested than permitted"),
    ],
)
def test_a_request_that_could_never_run_is_refused_with_what_there_is(study, word, said):
    out = study.finish("lora.r=1", word, code=2)
    assert said in out
    assert "the cluster offers main (the default): 4 nodes of 2 CPUs, 8000 MiB, gpu:2, no time limit; low: 4" in out
    assert study.runs() == []


def test_a_run_trains_on_a_node_for_real(slurm, tmp_path, cache):
    words = [
        "model=tiny",
        "task.num_train=64",
        "task.num_validation=32",
        "task.num_eval=32",
        "task.max_length=16",
        "training.max_steps=6",
    ]
    words += ["executor=slurm", "executor.cpus_per_task=1", "executor.gpus_per_node=1", "lora.r=2", "tracking=none"]
    words += [f"paths.root={tmp_path}/root", f"paths.cache={cache}", "study.baseline=null"]
    command = [sys.executable, "run.py", "-m", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 finished" in done.stdout
    single = [sys.executable, "run.py", *words[:-1]]
    refused = subprocess.run(single, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert "executor: slurm, which carries out studies; add -m" in refused.stderr


def test_a_controller_that_is_a_job_carries_the_study_out(slurm, tmp_path, cache):
    words = [
        "model=tiny",
        "task.num_train=64",
        "task.num_validation=32",
        "task.num_eval=32",
        "task.max_length=16",
        "training.max_steps=4",
    ]
    words += ["executor=slurm", "executor.cpus_per_task=1", "executor.mem_gb=2", "lora.r=1,2", "tracking=none"]
    words += [f"paths.root={tmp_path}/root", f"paths.cache={cache}", "study.baseline=null", "study.name=mine"]
    command = [sys.executable, "run.py", "-m", *words, "executor.submit_controller=true"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "study mine: its controller is job" in done.stdout
    progress = tmp_path / "root" / "studies" / "mine" / "progress.json"
    wait_until(lambda: '"done"' in ((progress.exists() and progress.read_text()) or ""), "not carried out", limit_s=120)
    assert json.loads(progress.read_text())["num_done"] == 2


def test_what_the_cluster_offers_and_would_be_asked(slurm, tmp_path, capsys):
    words = ["doctor", "--cluster", "--root", str(tmp_path), "--json"]
    assert cli.main(words) == 0
    answers = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert answers["partition main"]["data"]["nodes"] == 4
    assert answers["a run"]["answer"].endswith("Slurm would run it")
    assert cli.main([*words, "executor.gpus_per_node=3"]) == 1
    answers = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert "node configuration is not available" in answers["a run"]["advice"]
