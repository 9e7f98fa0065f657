"""Groups of processes that are killed, hang, fail and are stopped, with real processes and signals.

Oracle: the same run undisturbed, to the bit, where the group goes on; else the record that has to be there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file
from support.groups import BACKENDS

from lora_bench.rundir import RunDir, find_run_dirs, read_lines

ROOT = Path(__file__).resolve().parents[2]
WORDS = [
    "model=tiny",
    "training.max_steps=24",
    "training.log_every=1",
    "training.dtype=fp32",
    "training.batch_size=8",
    "training.eval_every=12",
    "training.checkpoint_every=4",
    "task.num_validation=20",
    "task.num_eval=20",
    "processes.timeout_s=20",
]


class Command:
    """One run in a process of its own, and the processes of its group.

    With `hold`, the group waits after this step for `go`, or for its end: a test has all the time that it needs.
    """

    def __init__(self, root: Path, *words: str, fault: str = "", hold: int = 0) -> None:
        self.root = root
        self.hold = hold
        file = root.parent / f"{root.name}.json"
        self.gate = file.with_suffix(".go")
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
        file.write_text(json.dumps([[*WORDS, f"paths.root={root}", *words]]))
        fault = f"hold={hold}" if hold else fault
        command = [sys.executable, str(ROOT / "tests/support/groups.py"), str(file), fault]
        self.process = subprocess.Popen(
            command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT
        )

    @property
    def run(self) -> RunDir:
        """Its directory."""
        (run,) = find_run_dirs(self.root)
        return run

    def reach_hold(self) -> None:
        """Waits until the step was told after which the group waits."""
        until = time.monotonic() + 120
        while time.monotonic() < until and self.process.poll() is None:
            runs = find_run_dirs(self.root)
            if runs and any(line["step"] >= self.hold for line in read_lines(runs[0].metrics)):
                return
            time.sleep(0.02)
        raise AssertionError(f"step {self.hold} was not reached: {self.process.stdout.read()}")

    def go(self) -> None:
        """Lets the group go on."""
        self.gate.touch()

    def starter(self) -> psutil.Process:
        """The process that started the group and waits."""
        (child,) = psutil.Process(self.process.pid).children()
        return child

    def members(self) -> list[psutil.Process]:
        """The processes that train, from the first."""
        return sorted(self.starter().children(), key=lambda process: process.pid)

    def finish(self, code: int = 0) -> str:
        """Its output, when it has ended with this code."""
        out, _ = self.process.communicate(timeout=150)
        assert f"exit code {code}" in out, out
        return out


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, RunDir]:
    """Backend -> its run."""
    found = {}
    for backend in ("ddp", "zero3"):
        command = Command(tmp_path_factory.mktemp(backend) / "root", f"processes={backend}")
        command.finish()
        found[backend] = command.run
    return found


@pytest.mark.parametrize(("backend", "victim"), [("ddp", 0), ("zero3", 1)])
def test_a_killed_process_restarts_the_group_from_its_checkpoint(tmp_path, undisturbed, backend, victim):
    command = Command(tmp_path / "root", f"processes={backend}", hold=10)
    command.reach_hold()
    command.members()[victim].kill()
    command.go()
    assert f"group 1 was lost: process {victim}: killed by signal 9" in command.finish()
    check_same(command.run, undisturbed[backend])
    notes = command.run.read_result().notes
    assert any("started again from the last checkpoint" in note for note in notes)
    assert any("resumed from the checkpoint of step" in note for note in notes)


def test_a_hanging_process_is_noticed_and_the_group_started_again(tmp_path, undisturbed):
    command = Command(tmp_path / "root", "processes=ddp", "processes.timeout_s=5", hold=10)
    command.reach_hold()
    command.members()[1].send_signal(signal.SIGSTOP)
    command.go()
    assert "group 1 was lost" in command.finish()
    check_same(command.run, undisturbed["ddp"])


def test_a_group_that_dies_too_often_is_recorded_as_failed(tmp_path):
    command = Command(tmp_path / "root", "processes=ddp", "processes.max_restarts=0", hold=2)
    command.reach_hold()
    command.members()[1].kill()
    command.go()
    command.finish(code=1)
    result = command.run.read_result()
    assert result.status == "failed"
    assert "the group was lost 1 times, at last: process 1: killed by signal 9" in result.error


def test_everybody_stops_on_request_and_the_same_command_goes_on(tmp_path, undisturbed):
    command = Command(tmp_path / "root", "processes=ddp", hold=6)
    command.reach_hold()
    members = command.members()
    command.starter().terminate()
    command.finish(code=75)
    assert not any(member.is_running() for member in members)
    assert command.run.read_result() is None
    again = Command(tmp_path / "root", "processes=ddp")
    again.finish()
    check_same(again.run, undisturbed["ddp"])


def test_a_group_whose_starter_is_killed_ends_and_the_same_command_goes_on(tmp_path, undisturbed):
    command = Command(tmp_path / "root", "processes=ddp", hold=6)
    command.reach_hold()
    members = command.members()
    command.starter().kill()
    _, alive = psutil.wait_procs(members, timeout=60)
    assert all(member.status() == psutil.STATUS_ZOMBIE for member in alive)
    again = Command(tmp_path / "root", "processes=ddp")
    again.finish()
    check_same(again.run, undisturbed["ddp"])


def test_four_processes_are_pruned_at_the_same_step(tmp_path):
    command = Command(tmp_path / "root", "processes=ddp", "processes.count=4", "training.eval_every=2", hold=3)
    command.reach_hold()
    command.run.stop_request.write_text("pruned by a test", encoding="utf-8")
    command.go()
    command.finish()
    result = command.run.read_result()
    assert result.status == "pruned"
    assert result.steps == 4


def test_one_process_without_memory_ends_the_run_as_oom(tmp_path):
    command = Command(tmp_path / "root", "processes=ddp", fault="oom")
    command.finish()
    result = command.run.read_result()
    assert result.status == "oom"
    assert "out of memory in training of process 1 after 5 steps" in result.error


def test_one_process_with_a_fault_ends_the_run_as_failed_and_is_not_tried_again(tmp_path):
    command = Command(tmp_path / "root", "processes=ddp", fault="error")
    out = command.finish(code=1)
    assert "was lost" not in out
    result = command.run.read_result()
    assert result.status == "failed"
    assert result.error.startswith("ValueError: a fault in process 1")


def test_everybody_diverges_together(tmp_path):
    command = Command(tmp_path / "root", "processes=ddp", fault="nan")
    command.finish()
    result = command.run.read_result()
    assert (result.status, result.steps) == ("diverged", 6)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> tuple[RunDir, RunDir]:
    """A run of one process in a group of its own: stopped on its way, and straight to its end."""
    words = ("processes=ddp", "processes.count=1", "training.dropout=0")
    command = Command(tmp_path_factory.mktemp("stopped") / "root", *words, hold=6)
    command.reach_hold()
    command.starter().terminate()
    command.finish(code=75)
    straight = Command(tmp_path_factory.mktemp("straight") / "root", *words)
    straight.finish()
    return command.run, straight.run


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_number_of_processes_goes_on_from_a_checkpoint(tmp_path, alone, backend):
    stopped, straight = alone
    words = (f"processes={backend}", f"processes.resume_from={stopped.path}", "training.dropout=0")
    command = Command(tmp_path / "root", *words)
    command.finish()
    assert read_lines(command.run.metrics)[0]["step"] > 6
    assert any(f"of {stopped.path.name}" in note for note in command.run.read_result().notes)
    losses = [
        {
            line["step"]: line["metrics"]["train/loss"]
            for line in read_lines(run.metrics)
            if "train/loss" in line["metrics"]
        }
        for run in (command.run, straight)
    ]
    assert losses[0] == pytest.approx({step: losses[1][step] for step in losses[0]}, abs=1e-5)


def test_an_earlier_run_whose_checkpoints_cannot_be_read_is_no_reason_to_begin_anew(tmp_path, alone):
    stopped, _ = alone
    copy = tmp_path / "stopped"
    shutil.copytree(stopped.path, copy)
    for manifest in copy.glob("checkpoints/*/manifest.json"):
        manifest.unlink()
    command = Command(tmp_path / "root", "processes=ddp", f"processes.resume_from={copy}", "training.dropout=0")
    command.finish(code=1)
    error = command.run.read_result().error
    assert "there is no checkpoint to go on from: checkpoint step-" in error
    assert "cannot be read" in error


def check_same(run: RunDir, undisturbed: RunDir) -> None:
    """The same weights to the bit, and each step told once."""
    found, wanted = (load_file(next(own.weights.glob("*.safetensors"))) for own in (run, undisturbed))
    assert set(found) == set(wanted)
    assert all(found[name].equal(tensor) for name, tensor in wanted.items())
    told = [(line["step"], *sorted(line["metrics"])) for line in read_lines(run.metrics)]
    assert len(told) == len(set(told)) == len(read_lines(undisturbed.metrics))
