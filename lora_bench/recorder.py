"""Writes what training tells into the run directory, so that a kill at any moment loses and doubles nothing."""

from __future__ import annotations

import os
import time
import weakref

from lora_bench import rundir
from lora_bench.config.resolve import config_digest
from lora_bench.config.schema import RunConfig
from lora_bench.errors import RunDirError
from lora_bench.measure import machine
from lora_bench.records import RunResult
from lora_bench.rundir import RunDir
from lora_bench.training.observer import NullObserver


class Recorder(NullObserver):
    """Appends whole, synced lines to `metrics.jsonl` and keeps `status.json` current.

    After a resume the steps since the last checkpoint are told a second time; their lines are there already (with
    the same numbers, on a CPU to the last bit) and are not written again, so that a point keeps its first timestamp.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        # Held open, so that the number of a folder that is deleted goes to no other.
        self._folder = os.open(run_dir.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._folder)
        self._num_steps = 0
        rundir.repair_tail(run_dir.metrics)
        rundir.repair_tail(run_dir.items)
        self._recorded = {_key(line["step"], line["metrics"]) for line in run_dir.read_metrics()}
        self.notes: list[str] = []

    def on_start(self, *, num_steps: int, first_step: int) -> None:
        """The status says running, from where."""
        self._num_steps = num_steps
        self._run_dir.write_status(status="running", step=first_step, steps=num_steps, metrics={})

    def on_log(self, step: int, metrics: dict[str, float]) -> None:
        """One line, and the status."""
        self._append(step, metrics)
        self._run_dir.write_status(status="running", step=step, steps=self._num_steps, metrics=metrics)

    def on_eval(self, step: int, metrics: dict[str, float]) -> bool:
        """One line; True if somebody asks the run to stop here."""
        self._append(step, metrics)
        try:
            reason = self._run_dir.stop_request.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return False
        self.on_note(f"stopped early, {reason}")
        return True

    def on_note(self, text: str) -> None:
        """Kept for the result."""
        self.notes.append(text)

    def check_folder(self) -> None:
        """Look whether the folder is the one that the run began in.

        Raises:
            RunDirError: If it was deleted or moved since; what would be written now would be a piece of a record.
        """
        if not self._is_in_place():
            raise RunDirError(
                f"{self._run_dir.path}: was deleted or moved while the run was going on, so the run was ended and "
                "nothing of it is recorded; the same command starts it anew"
            )

    def _is_in_place(self) -> bool:
        try:
            found = os.stat(self._run_dir.path)
        except OSError:
            return False
        return os.path.samestat(found, os.fstat(self._folder))

    def _append(self, step: int, metrics: dict[str, float]) -> None:
        self.check_folder()
        if _key(step, metrics) in self._recorded:
            return
        timestamp_ms = time.time_ns() // 1_000_000
        rundir.append_line(self._run_dir.metrics, {"step": step, "timestamp_ms": timestamp_ms, "metrics": metrics})
        self._recorded.add(_key(step, metrics))


def record_failure(config: RunConfig, run_dir: RunDir, error: str) -> RunResult:
    """Records a run that a fault of the program, or its violent end, left without a result."""
    status = run_dir.read_status()
    result = RunResult(
        status="failed",
        config_digest=config_digest(config),
        run_name=run_dir.path.name,
        model=config.model.name,
        task=config.task.name,
        method=config.method.name,
        headline="",
        scores=[],
        steps=int(status.get("step", 0)),
        epochs=0.0,
        final_train_loss=status.get("metrics", {}).get("train/loss"),
        memory=None,
        timing=None,
        sizes=None,
        provenance=machine.provenance(seed=config.seed, num_threads=0, weights_digest="", data_digest=""),
        error=f"{error}; log: {run_dir.log}",
    )
    run_dir.write_result(result)
    run_dir.write_status(status="failed", step=result.steps, steps=config.training.max_steps, metrics={})
    return result


def _key(step: int, metrics: dict[str, float]) -> tuple[int, tuple[str, ...]]:
    return step, tuple(sorted(metrics))
