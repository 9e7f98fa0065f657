"""What a study costs beside its runs: controller time per trial, over trials that sleep 10 ms and write a result.

    python benchmarks/study_overhead.py [--trials 1000] [--sampler tpe|grid|random]

The runs are started by an executor that does in a thread's time what a process would (sleep, then the record), so
that what is left is the controller's: asking, composing, writing, polling, telling. One slot is kept filled; the time
of a trial is from its start to the start of the next, less its 10 ms. The first trials pay for imports and caches.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

import lora_bench.search.sweep as study
from lora_bench.execution import Outcome, RunRequest
from lora_bench.execution.pretend import write_pretended
from lora_bench.rundir import RunDir

SLEEP_S = 0.010
MOST_PER_TRIAL_S, MOST_GROWTH = 0.15, 1.5


class TinyExecutor:
    """Ends a run 10 ms after it was submitted, when it is asked."""

    def __init__(self) -> None:
        self.starts_s: list[float] = []
        self._runs: list[RunDir] = []

    def submit(self, request: RunRequest) -> int:
        """Notes the moment."""
        self._runs.append(RunDir(request.run_dir))
        self.starts_s.append(time.perf_counter())
        return len(self._runs)

    def reattach(self, run_dir: RunDir) -> None:
        """Nothing goes on from an earlier controller."""

    def is_waiting(self, handle: int) -> bool:
        """Never: a run begins at once."""
        return False

    def poll(self, handle: int) -> Outcome:
        """Sleeps what is left of the 10 ms and writes the record."""
        time.sleep(max(0.0, self.starts_s[-1] + SLEEP_S - time.perf_counter()))
        write_pretended(self._runs[handle - 1], "finished")
        return Outcome(0)

    def cancel(self, handle: int, *, now: bool) -> None:
        """Nothing runs on."""

    def close(self) -> None:
        """Nothing runs on."""


def main() -> int:
    """0 if both claims hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    study.POLL_S = 0.0
    executor = TinyExecutor()
    with tempfile.TemporaryDirectory() as folder:
        words = ["model=tiny", "task.num_train=64", "tracking=none", f"paths.root={folder}", "study.baseline=null"]
        if arguments.sampler == "grid":
            words += [f"seed=range(0,{arguments.trials})"]
        else:
            words += ["training.lr=tag(log,interval(1e-5,1e-1))", "lora.r=1,2,4,8", "placement=qv,attention,mlp,all"]
            words += [f"study.sampler={arguments.sampler}", f"study.n_trials={arguments.trials}"]
        start = time.perf_counter()
        study.sweep(words, console=Console(quiet=True), executor=executor)
        total_s = time.perf_counter() - start
    gaps_ms = [1e3 * (b - a - SLEEP_S) for a, b in zip(executor.starts_s, executor.starts_s[1:], strict=False)]
    # From trial 11 on, because the first ten of TPE are drawn at random.
    early, late = statistics.median(gaps_ms[10:20]), statistics.median(gaps_ms[-10:])
    found = {
        "sampler": arguments.sampler,
        "trials": len(executor.starts_s),
        "total_s": round(total_s, 1),
        "controller_per_trial_ms": round(statistics.mean(gaps_ms), 1),
        "around_trial_10_ms": round(early, 1),
        "around_last_trial_ms": round(late, 1),
        "growth": round(late / early, 2),
    }
    print(json.dumps(found, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    is_whole = len(executor.starts_s) == arguments.trials
    is_cheap = statistics.mean(gaps_ms) <= 1e3 * MOST_PER_TRIAL_S and late <= MOST_GROWTH * early
    return 0 if is_whole and is_cheap else 1


if __name__ == "__main__":
    sys.exit(main())
