"""Where the wall time of several runs went: the same parts for a study of ours and for a loop over a script.

    start      interpreter, imports, composing; of a study also the server that runs are forked from
    data       reading texts and tokens
    model      reading weights, adding adapters, making optimiser and trainer
    steps      forward, backward, clipping, optimiser
    evaluation forward passes over the evaluation items, and their scores
    around     what a run does beside these: fetching batches, logging, checkpoint, adapter, its record
    end        the rest: ends of processes, empty slots, and a study's own records and table

Parts add up to the wall time. Where a study has several slots, a second of one run counts as that much less of the
wall time.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_bench.errors import MeasurementError
from lora_bench.records import RunResult
from lora_bench.rundir import RunDir, find_run_dirs

PARTS = ("start", "data", "model", "steps", "evaluation", "around", "end")


@dataclass(frozen=True)
class RunEnd:
    """What one run did: has to be the same work on both sides."""

    rank: int
    seed: int
    steps: int
    num_eval: int
    trainable_parameters: int
    accuracy: float


@dataclass(frozen=True)
class Makespan:
    """Several runs, from the first command's start to the last one's end."""

    contestant: str
    wall_s: float
    parts_s: dict[str, float]
    """Of all parts, in their order; they add up to `wall_s`."""
    runs: list[RunEnd]


def script_parts(out: Path, *, spawned_at: float, exited_at: float) -> Counter[str]:
    """Seconds by part of one run of the script, whose process began and ended at these times."""
    times = json.loads((out / "times.json").read_text())
    ended_at, steps_s = times["ended_at"], times["steps_s"]
    marks = [spawned_at, *(ended_at[part] for part in ("imports", "data", "model", "train", "evaluation", "save"))]
    start_s, data_s, model_s, train_s, evaluation_s, save_s = (b - a for a, b in itertools.pairwise(marks))
    return Counter(
        start=start_s, data=data_s, model=model_s, steps=steps_s, evaluation=evaluation_s,
        around=train_s - steps_s + save_s, end=exited_at - marks[-1],
    )  # fmt: skip


def script_end(out: Path, *, rank: int, seed: int) -> RunEnd:
    """What one run of the script did."""
    times = json.loads((out / "times.json").read_text())
    names = ("steps", "num_eval", "trainable_parameters", "accuracy")
    return RunEnd(rank, seed, **{name: times[name] for name in names})


def study_makespan(contestant: str, root: Path, *, spawned_at: float, exited_at: float, num_slots: int) -> Makespan:
    """A study of ours, from its run directories.

    A run begins when its process makes the lock file, whose time is never touched again, and ends with its record.
    """
    runs = find_run_dirs(root)
    began_at = [run.lock.stat().st_mtime for run in runs]
    parts: Counter[str] = Counter()
    for run, began in zip(runs, began_at, strict=True):
        timing = _finished(run).timing
        assert timing is not None, "finished runs have one"
        assert timing.data_s is not None, "this version records it"
        inside = {
            "data": timing.data_s, "model": timing.load_s - timing.data_s,
            "steps": timing.train_s, "evaluation": timing.eval_s,
        }  # fmt: skip
        inside["around"] = run.result.stat().st_mtime - began - sum(inside.values())
        parts.update({part: seconds / num_slots for part, seconds in inside.items()})
    wall_s = exited_at - spawned_at
    parts["start"] = min(began_at) - spawned_at
    parts["end"] = wall_s - parts.total()
    return Makespan(contestant, wall_s, ordered(parts), [study_end(run) for run in runs])


def study_end(run: RunDir) -> RunEnd:
    """What one run of ours did."""
    result, lora = _finished(run), run.read_config()["lora"]
    accuracy = result.score("accuracy")
    assert accuracy is not None, "classification has it"
    assert result.sizes is not None, "finished runs have them"
    trainable = result.sizes.trainable_parameters
    return RunEnd(lora["r"], result.provenance.seed, result.steps, accuracy.num_items, trainable, accuracy.value)


def check_equal_work(makespans: Sequence[Makespan]) -> None:
    """Holds all contestants to the same runs: ranks, seeds, steps, items and trained parameters.

    Raises:
        MeasurementError: If two of them did different work.
    """
    works = {
        one.contestant: sorted((r.rank, r.seed, r.steps, r.num_eval, r.trainable_parameters) for r in one.runs)
        for one in makespans
    }
    first, *others = works.items()
    for name, work in others:
        if work != first[1]:
            raise MeasurementError(
                f"{first[0]} and {name} did different work (rank, seed, steps, items, trained): {first[1]} and {work}"
            )


def ordered(parts: Counter[str]) -> dict[str, float]:
    """All parts, in their order."""
    return {part: float(parts[part]) for part in PARTS}


def _finished(run: RunDir) -> RunResult:
    result = run.read_result()
    if result is None or result.status != "finished":
        raise MeasurementError(f"{run.path}: not finished ({result.error if result else 'no result'})")
    return result
