"""The sample cluster. Oracle: the Slurm that the tests start, on which every one of these settings is tried."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = (ROOT / "docker" / "slurm" / "slurm.conf").read_text()
TRIED = (ROOT / "tests" / "cluster" / "slurm-up.sh").read_text()


def setting(text: str, key: str) -> str:
    (value,) = re.findall(rf"^{key}=(.*)$", text, flags=re.MULTILINE)
    return value


@pytest.mark.parametrize(
    "key",
    [
        "EnforcePartLimits",
        "JobRequeue",
        "MinJobAge",
        "PreemptMode",
        "PreemptType",
        "SchedulerType",
        "SelectType",
        "SlurmctldParameters",
    ],
)
def test_what_runs_count_on_is_what_is_tried(key):
    assert setting(SAMPLE, key) == setting(TRIED, key)


def test_a_requeued_job_waits_until_its_old_steps_are_gone():
    expire_s = int(setting(SAMPLE, "AuthInfo").removeprefix("cred_expire="))
    assert int(setting(SAMPLE, "KillWait")) + 4 < expire_s < 120


def test_a_preempted_run_has_time_to_checkpoint_and_gpus_have_devices():
    low = next(line for line in SAMPLE.splitlines() if line.startswith("PartitionName=low")).split()
    assert "PreemptMode=REQUEUE" in low
    assert "GraceTime=120" in low
    nodes, gpus = re.search(r"^NodeName=(\S+) .*Gres=gpu:(\d+)", SAMPLE, flags=re.MULTILINE).groups()
    gres = (ROOT / "docker" / "slurm" / "gres.conf").read_text()
    assert f"NodeName={nodes} Name=gpu File=/dev/nvidia[0-{int(gpus) - 1}]" in gres
    assert "ConstrainDevices=yes" in (ROOT / "docker" / "slurm" / "cgroup.conf").read_text()
