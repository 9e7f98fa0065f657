"""A study of 64 trials on eight places with PostgreSQL. Oracles: Slurm's queue, the kernel's count of CPU time, SQL."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

import psutil
import pytest
from support.studies import RATE, PretendedStudy
from support.watching import finish, wait_for_step

from lora_bench.execution import cluster

pytestmark = pytest.mark.cluster

PLACES, AT_A_TIME, NUM_TRIALS = 8, 16, 64
LOOK_S = 0.5


@dataclass
class Looks:
    """What the queue was like while there was work for every place."""

    busy: list[int] = field(default_factory=list)
    """Places taken, one number for each look."""
    num_unasked: int = 0
    """Looks at which fewer runs had been handed in than there are places."""

    def look(self) -> None:
        states = Counter(cluster.queue().values())
        taken = states["RUNNING"] + states["COMPLETING"] + states["CONFIGURING"]
        self.busy.append(min(taken, PLACES))
        self.num_unasked += taken + states["PENDING"] < PLACES

    @property
    def share_busy(self) -> float:
        return sum(self.busy) / (PLACES * len(self.busy))


def cpu_s(process: psutil.Process) -> float:
    """Of the process and of the commands that it has waited for."""
    return sum(process.cpu_times()[:4])


def test_64_trials_keep_every_place_busy_and_the_controller_idle(study, postgres, capsys):
    optuna, mlflow = postgres.url("optuna"), postgres.url("mlflow")
    words = [word for word in study.words if not word.startswith(("study.baseline=", "tracking=", "paths.root="))]
    large = PretendedStudy(study.root, words)
    process = large.start(
        RATE,
        "study.sampler=random",
        f"study.n_trials={NUM_TRIALS // 2}",
        f"study.n_jobs={AT_A_TIME}",
        f"study.storage={optuna}",
        f"tracking.uri={mlflow}",
        "training.max_steps=400",
    )
    wait_for_step(large, process, 1)
    controller, looks = psutil.Process(process.pid), Looks()
    began_s, before_s = time.monotonic(), cpu_s(controller)
    while sum(large.statuses().values()) < NUM_TRIALS - AT_A_TIME:
        assert process.poll() is None, process.communicate()[0]
        looks.look()
        time.sleep(LOOK_S)
    wall_s = time.monotonic() - began_s
    share = (cpu_s(controller) - before_s) / wall_s
    finish(process)
    with capsys.disabled():
        print(f"\n{wall_s:.0f} s, {looks.share_busy:.0%} of the places busy, controller {share:.1%} of a core")
    large.check_each_once(num_trials=NUM_TRIALS // 2, url=optuna)
    large.check_each_once_in_mlflow(mlflow)
    assert large.statuses() == {"finished": NUM_TRIALS}
    # A look may fall between the end of a run and the next one, for the time that a busy machine needs.
    assert looks.num_unasked <= len(looks.busy) // 50
    # Slurm takes up to a second to put the next job on a place; a run here takes some five.
    assert looks.share_busy > 0.75
    assert share < 0.5
