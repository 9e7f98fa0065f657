"""Grids with real processes. Oracle: exactly the asked runs, each once, whatever was killed on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.studies import last_of_each

from lora_bench import cli, rundir
from lora_bench.rundir import RunDir, find_run_dirs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def command(tmp_path, cache):
    """The words of a small grid: three ranks and the baseline."""
    words = [
        "model=tiny",
        "task.num_train=64",
        "task.num_validation=32",
        "task.num_eval=32",
        "task.max_length=16",
        "training.batch_size=8",
    ]
    words += ["training.checkpoint_every=5", "training.log_every=1", "lora.r=1,2,4", "tracking=none"]
    words += [f"paths.root={tmp_path}/root", f"paths.cache={cache}", "executor.threads_per_run=1"]

    def make(*more: str) -> list[str]:
        return [sys.executable, "run.py", "-m", *last_of_each(*words, *more)]

    return make


def run(command, **options):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, **options)


def results(tmp_path):
    return [json.loads(run_dir.result.read_text()) for run_dir in find_run_dirs(tmp_path / "root")]


def test_a_grid_ends_in_a_table_and_a_second_time_it_is_all_there(command, tmp_path):
    words = command("training.max_steps=6")
    first = run(words)
    assert first.returncode == 0, first.stdout + first.stderr
    assert [result["status"] for result in results(tmp_path)] == ["finished"] * 4
    assert sorted(result["method"] for result in results(tmp_path)) == ["full", "lora", "lora", "lora"]
    assert "4 runs, 4 to do" in first.stdout
    assert "4 finished" in first.stdout
    assert "lora-bench dashboard" in first.stdout
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "root" / "runs").rglob("*") if path.is_file()}
    second = run(words)
    assert second.returncode == 0
    assert "4 runs, 4 recorded already, 0 to do" in second.stdout
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "root" / "runs").rglob("*") if path.is_file()}
    assert after == before


def test_two_at_a_time_give_the_same_runs(command, tmp_path):
    done = run(command("training.max_steps=6", "study.n_jobs=2"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len({result["config_digest"] for result in results(tmp_path)}) == 4


def test_a_killed_run_is_retried_from_its_checkpoint(command, tmp_path):
    controller = subprocess.Popen(command("training.max_steps=300"), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    pid = _running_pid(tmp_path, controller, step=7)
    os.kill(pid, signal.SIGKILL)
    out, _ = controller.communicate(timeout=300)
    assert controller.returncode == 0, out
    assert "killed by signal 9" in out
    assert "retry 1 of 2" in out
    assert [result["status"] for result in results(tmp_path)] == ["finished"] * 4
    for run_dir in find_run_dirs(tmp_path / "root"):
        steps = [line["step"] for line in rundir.read_lines(run_dir.metrics) if "train/loss" in line["metrics"]]
        assert steps == list(range(1, 301))


def test_a_killed_run_has_the_weights_of_an_uninterrupted_one(command, tmp_path):
    words = command("training.max_steps=400", "lora.r=2", "study.baseline=null", "study.sampler=random")
    words += ["study.n_trials=1"]
    controller = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    os.kill(_running_pid(tmp_path, controller, step=11), signal.SIGKILL)
    out, _ = controller.communicate(timeout=300)
    assert "retry 1 of 2" in out
    whole = run([*words[:3], *last_of_each(*words[3:], f"paths.root={tmp_path}/whole")])
    assert whole.returncode == 0, whole.stdout + whole.stderr
    (killed,), (uninterrupted,) = find_run_dirs(tmp_path / "root"), find_run_dirs(tmp_path / "whole")
    assert killed.path.name == uninterrupted.path.name
    files = sorted(path.relative_to(killed.weights) for path in killed.weights.rglob("*.safetensors"))
    assert files
    for file in files:
        assert (killed.weights / file).read_bytes() == (uninterrupted.weights / file).read_bytes()


def test_sigkill_of_the_controller_then_the_same_command(command, tmp_path):
    words, moments = command("training.max_steps=400"), random.Random(0)
    num_kills = 0
    for _ in range(3):
        controller = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _running_pid(tmp_path, controller, step=1)
        time.sleep(moments.random() * 3)
        if controller.poll() is None:
            controller.kill()
            num_kills += 1
        controller.wait()
        _wait_until_free(tmp_path)
    assert num_kills >= 1
    done = run(words)
    assert done.returncode == 0, done.stdout + done.stderr
    found = results(tmp_path)
    assert [result["status"] for result in found] == ["finished"] * 4
    assert len({result["config_digest"] for result in found}) == 4
    assert not [path for path in (tmp_path / "root").rglob(f"*{rundir.TEMPORARY_MARK}*") if path.name == "result.json"]


def test_ctrl_c_checkpoints_and_the_same_command_goes_on(command, tmp_path):
    words = command("training.max_steps=600")
    controller = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    _running_pid(tmp_path, controller, step=3)
    controller.send_signal(signal.SIGINT)
    out, _ = controller.communicate(timeout=120)
    assert controller.returncode == 130, out
    assert "stopped after a checkpoint; the same command goes on" in out
    (begun,) = [run_dir for run_dir in find_run_dirs(tmp_path / "root") if run_dir.checkpoints.exists()]
    assert len(list(begun.checkpoints.glob("step-*"))) >= 1


def test_faults_of_a_grid_start_nothing(command, tmp_path):
    done = run(command("training.max_steps=0", "lora.alpha=-1", "placement=qq"))
    assert done.returncode == 2
    assert "no choice 'qq'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "root").exists()


def test_diverged_runs_are_results_and_the_grid_goes_on(command, tmp_path):
    words = ["training.max_steps=6", "training.lr=1e30,1e-3", "training.max_grad_norm=null", "lora.r=2"]
    done = run(command(*words, "training.warmup_ratio=0", "study.baseline=null", "training.dtype=fp32"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(result["status"] for result in results(tmp_path)) == ["diverged", "finished"]


def test_a_run_that_hangs_is_ended_and_tried_again(command, tmp_path):
    words = command("training.max_steps=400", "lora.r=1,2", "study.baseline=null", "executor.hang_min=0.2")
    controller = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    os.kill(_running_pid(tmp_path, controller, step=7), signal.SIGSTOP)
    out, _ = controller.communicate(timeout=300)
    assert controller.returncode == 0, out
    assert "hung: nothing new from it for 0.2 min; retry 1 of 2" in out
    assert [result["status"] for result in results(tmp_path)] == ["finished"] * 2


def test_a_run_that_needs_too_much_memory_ends_alone(command, tmp_path):
    # 4,096 tweets of 8,192 inner features are several GiB; the process limit stands for a machine of 3 GiB.
    words = ["training.max_steps=2", "lora.r=2", "training.batch_size=8,4096", "study.baseline=null"]
    words += ["task.num_train=4096", "task.max_length=64", "model.architecture.intermediate_size=8192"]
    done = run(["prlimit", f"--data={3 * 2**30}", *command(*words)])
    assert done.returncode == 0, done.stdout + done.stderr
    found = {result["status"]: result for result in results(tmp_path)}
    assert set(found) == {"finished", "oom"}
    assert "out of memory in training after 0 steps" in found["oom"]["error"]
    assert "retry" not in done.stdout


def test_a_pruner_ends_four_processes_at_the_same_step(command, tmp_path):
    # At such a rate nothing ever changes, so that the first evaluation stays the best.
    words = command("training.max_steps=4000", "training.lr=1e-12", "lora.r=2", "study.baseline=null")
    words += ["training.eval_every=2", "study.pruner=patience", "study.pruner_patience=2", "processes.count=4"]
    done = run(words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "asked to stop (patience: no better value in " in done.stdout
    (result,) = results(tmp_path)
    assert result["status"] == "pruned"
    assert result["steps"] % 2 == 0
    assert 6 <= result["steps"] < 4000
    assert result["processes"]["count"] == 4


def test_stop_from_another_terminal_checkpoints_and_the_same_command_goes_on(command, tmp_path):
    words = command("training.max_steps=200", "lora.r=2", "study.baseline=null", "study.name=mine")
    controller = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    _running_pid(tmp_path, controller, step=3)
    assert cli.main(["stop", "mine", "--root", f"{tmp_path}/root"]) == 0
    out, _ = controller.communicate(timeout=120)
    assert controller.returncode == 130, out
    assert "stopped after a checkpoint; the same command goes on" in out
    assert run(words).returncode == 0
    (run_dir,) = find_run_dirs(tmp_path / "root")
    steps = [line["step"] for line in rundir.read_lines(run_dir.metrics) if "train/loss" in line["metrics"]]
    assert steps == list(range(1, 201))


def _running_pid(tmp_path, controller, *, step):
    """The process of a run that has come so far."""
    end = time.monotonic() + 180
    while time.monotonic() < end and controller.poll() is None:
        for run_dir in find_run_dirs(tmp_path / "root"):
            status = run_dir.read_status()
            if status.get("status") == "running" and status.get("step", 0) >= step and run_dir.is_held():
                return int(status["pid"])
        time.sleep(0.02)
    raise AssertionError(f"no run was seen at step {step}")


def _wait_until_free(tmp_path):
    """Orphans of a killed controller are asked to stop by the kernel; they checkpoint first."""
    end = time.monotonic() + 60
    while any(RunDir(run_dir.path).is_held() for run_dir in find_run_dirs(tmp_path / "root")):
        assert time.monotonic() < end, "a run outlived its controller"
        time.sleep(0.1)


def test_ctrl_c_in_a_terminal_reaches_the_whole_group_and_still_checkpoints(command, tmp_path):
    words = command("training.max_steps=3000", "training.checkpoint_every=0", "study.baseline=null", "lora.r=2")
    controller = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    _running_pid(tmp_path, controller, step=3)
    os.killpg(controller.pid, signal.SIGINT)
    out, _ = controller.communicate(timeout=120)
    assert controller.returncode == 130, out
    (begun,) = [run_dir for run_dir in find_run_dirs(tmp_path / "root") if run_dir.checkpoints.exists()]
    assert len(list(begun.checkpoints.glob("step-*"))) == 1


def test_a_run_whose_controller_was_killed_checkpoints_and_stops(command, tmp_path):
    words = command("training.max_steps=30000", "training.checkpoint_every=0", "study.baseline=null", "lora.r=2")
    controller = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    _running_pid(tmp_path, controller, step=3)
    controller.kill()
    controller.wait()
    _wait_until_free(tmp_path)
    (begun,) = find_run_dirs(tmp_path / "root")
    assert begun.read_result() is None
    assert len(list(begun.checkpoints.glob("step-*"))) == 1


def test_two_studies_that_share_a_run_train_it_once(command, tmp_path):
    both = [command("training.max_steps=100", f"lora.r={rank}", f"study.name=rank{rank}") for rank in (1, 2)]
    controllers = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) for words in both]
    outs = [controller.communicate(timeout=300)[0] for controller in controllers]
    assert [controller.returncode for controller in controllers] == [0, 0], outs
    assert [result["status"] for result in results(tmp_path)] == ["finished"] * 3
    assert not list((tmp_path / "root").rglob("failures"))


def test_the_record_has_the_command_that_a_user_typed(command, tmp_path):
    assert run(command("training.max_steps=2", "lora.r=2", "study.baseline=null")).returncode == 0
    (result,) = results(tmp_path)
    assert "run.py -m model=tiny" in result["provenance"]["command"]
    assert "forkserver" not in result["provenance"]["command"]
