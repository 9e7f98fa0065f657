"""Signals at seeded random moments to every kind of process of a study, then a comparison with an undisturbed one.

    PYTHONPATH=tests python benchmarks/kills.py --out kills.json [--kills 200] [--minutes 60] [--seed 0]

One cycle is a study that trains (a grid, or a search with TPE, in turn), in a root of its own and with MLflow. While it
goes on, its controller, a run, the server that runs are forked from, the controller's process group (what `timeout` and
a terminal signal) or all of its processes (what Slurm and systemd signal) get SIGKILL, SIGTERM, SIGINT, or SIGSTOP and
SIGCONT; a command that has ended is given again, until it exits with 0. Oracle: a grid over the same points that was
left alone. The file is written after every cycle. Exit code 1 if anything differed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from support import mlflow_rows

from lora_bench.rundir import TEMPORARY_MARK, RunDir, find_run_dirs, read_lines, write_json
from lora_bench.search.storage import open_storage
from lora_bench.search.studydir import StudyDir, find_study_dirs

ROOT = Path(__file__).resolve().parents[1]
GRID = ["lora.r=1,4", "training.lr=1e-3,3e-3,1e-2"]
SEARCH = [*GRID, "study.sampler=tpe", "study.n_trials=3"]
WORDS = [
    *("model=tiny", "task.num_train=64", "task.num_validation=16", "task.num_eval=16", "task.max_length=16"),
    *("training.batch_size=8", "training.max_steps=100", "training.eval_every=20", "training.checkpoint_every=10"),
    *("training.log_every=1", "executor.threads_per_run=1", "executor.max_retries=1000", "study.n_jobs=2"),
]
VICTIMS = {"run": 10, "server": 6, "controller": 2, "group": 1, "session": 1}
"""Victim -> how often it is chosen, in proportion."""
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGSTOP")
LOSSES = ("train/loss", "eval/")
"""Metrics that are the same in every repetition; times are not."""
ORPHAN_S = 90
"""Seconds within which no process may be left of a controller that has ended."""


class Command:
    """One controller, in a session of its own, so that all of its processes are found."""

    def __init__(self, root: Path, words: list[str], log: Path) -> None:
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, *words, f"paths.root={root}"],
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def members(self) -> list[psutil.Process]:
        """Every living process of the session."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def victims(self, kind: str, root: Path) -> list[int]:
        """Processes of a kind, by number; a negative one is a process group."""
        if kind == "controller":
            return [self.process.pid]
        if kind == "group":
            return [-self.process.pid]
        if kind == "run":
            held = {run.read_status().get("pid") for run in find_run_dirs(root) if run.is_held()}
            return [process.pid for process in self.members() if process.pid in held]
        words = {process.pid: " ".join(process.cmdline()) for process in self._readable()}
        if kind == "session":
            return list(words)
        runs = set(self.victims("run", root))
        return [pid for pid, line in words.items() if "multiprocessing.forkserver" in line and pid not in runs][:1]

    def _readable(self) -> Iterator[psutil.Process]:
        for process in self.members():
            with contextlib.suppress(psutil.Error):
                process.cmdline()
                yield process

    def leave_nothing(self) -> list[str]:
        """Waits until no process is left; what had to be ended, in words."""
        until = time.monotonic() + ORPHAN_S
        while (left := self.members()) and time.monotonic() < until:
            time.sleep(0.2)
        names = []
        for process in left:
            with contextlib.suppress(psutil.Error):
                names.append(f"{process.pid}: {' '.join(process.cmdline())[:120]}")
                process.kill()
        return names


def disturb(command: Command, root: Path, moments: random.Random) -> dict[str, Any] | None:
    """One signal to one victim; what was sent, or None if there was no such process."""
    kind = moments.choices(list(VICTIMS), list(VICTIMS.values()))[0]
    name = moments.choice(SIGNALS)
    pids = command.victims(kind, root)
    if not pids or command.process.poll() is not None:
        return None
    if kind == "run":
        pids = [moments.choice(pids)]
    number = getattr(signal, name)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    if name == "SIGSTOP":
        time.sleep(moments.uniform(0.2, 1.0))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    return {"victim": kind, "signal": name, "processes": len(pids)}


def carry_out(root: Path, words: list[str], moments: random.Random, *, num_kills: int) -> dict[str, Any]:
    """A study to its end, with so many signals; what was sent, and what was wrong on the way."""
    sent: list[dict[str, Any]] = []
    codes: Counter[str] = Counter()
    wrong: list[str] = []
    log = root.with_suffix(".log")
    for _ in range(5 * num_kills + 10):
        command = Command(root, words, log)
        begun_s = time.monotonic()
        # Every third command is hit while it starts; the others have a run first, if any is left.
        hits_start = moments.random() < 0.33
        while command.process.poll() is None:
            if len(sent) >= num_kills:
                time.sleep(0.2)
                continue
            if hits_start or command.victims("run", root):
                time.sleep(moments.uniform(0, 8 if hits_start else 1))
                if (one := disturb(command, root, moments)) is not None:
                    sent.append({**one, "after_s": round(time.monotonic() - begun_s, 2)})
                hits_start = False
            time.sleep(0.1)
        codes[str(command.process.returncode)] += 1
        if moments.random() < 0.5 or command.process.returncode == 0:
            wrong += [f"left running: {name}" for name in command.leave_nothing()]
        if command.process.returncode == 0:
            break  # the study is done, be it before all signals were sent
    else:
        wrong.append("never ended")
    text = log.read_text(errors="replace")
    wrong += [f"traceback: {line}" for line in _last_lines_of_tracebacks(text)]
    wrong += [line for line in text.splitlines() if "; retry " in line and "killed by signal 9" not in line]
    return {"sent": sent, "exit_codes": dict(codes), "wrong": wrong, "retries": text.count("; retry ")}


def _last_lines_of_tracebacks(text: str) -> list[str]:
    parts = text.split("Traceback (most recent call last):")[1:]
    return [next((line for line in part.splitlines()[1:] if line and line[0] != " "), "?") for part in parts]


def differences(root: Path, reference: Path, *, is_search: bool) -> list[str]:
    """Everything in which a study that has ended is not as it has to be."""
    runs = {run.path.name: run for run in find_run_dirs(root)}
    wanted = {run.path.name: run for run in find_run_dirs(reference)}
    (directory,) = find_study_dirs(root)
    asked = [name for line in directory.read_trials() for name in line.runs]
    wrong = []
    if sorted(asked) != sorted(runs) or len(set(asked)) != len(asked):
        wrong.append(f"runs asked {sorted(asked)}, on disk {sorted(runs)}")
    if not is_search and set(runs) != set(wanted):
        wrong.append(f"runs of the grid: {sorted(set(runs) ^ set(wanted))}")
    for name, run in runs.items():
        if name not in wanted:
            wrong.append(f"{name}: no point of the space")
            continue
        for what, own, other in zip(
            ("result", "metrics", "weights"), facts_of(run), facts_of(wanted[name]), strict=True
        ):
            if own != other:
                wrong.append(f"{name}: {what} differ: {str(own)[:200]} for {str(other)[:200]}")
        if run.is_held():
            wrong.append(f"{name}: still held")
        if (run.path / "failures").exists():
            wrong.append(f"{name}: was recorded as failed")
    wrong += [f"left: {path}" for path in root.rglob(f"*{TEMPORARY_MARK}*")]
    # Runs that pretend have no weights, and leave their checkpoints.
    kept = [name for name, run in runs.items() if run.weights.exists() and run.checkpoints.exists()]
    wrong += [f"checkpoints left: {name}" for name in kept]
    if directory.holder() is not None:
        wrong.append("the study is still held")
    return [*wrong, *_mlflow_differences(root, runs, directory), *(_optuna_differences(directory) if is_search else [])]


def facts_of(run: RunDir) -> tuple[dict[str, Any], list[Any], dict[str, str]]:
    """What a repetition must give again: status, scores and loss; every told loss and score; digests of the weights."""
    data = json.loads(run.result.read_text(encoding="utf-8"))
    result = {key: data.get(key) for key in ("status", "scores", "validation", "steps", "final_train_loss")}
    metrics = [
        (line["step"], {key: value for key, value in line["metrics"].items() if key.startswith(LOSSES)})
        for line in read_lines(run.metrics)
    ]
    files = sorted(run.weights.rglob("*.safetensors"))
    return result, metrics, {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _mlflow_differences(root: Path, runs: dict[str, RunDir], directory: StudyDir) -> list[str]:
    wrong = []
    if (names := mlflow_rows.run_names(root)) != Counter([*runs, directory.path.name]):
        wrong.append(f"MLflow's runs: {dict(names)}")
    if running := mlflow_rows.rows(root, "SELECT name FROM runs WHERE status = 'RUNNING'"):
        wrong.append(f"running in MLflow: {running}")
    for name, run in runs.items():
        for metric in LOSSES:
            # The intervals of a result are points of MLflow alone.
            stored = Counter(point for point in mlflow_rows.points(root, run, metric) if "_ci_" not in point[0])
            told = mlflow_rows.told_points(run, metric)
            if stored != told:
                wrong.append(f"{name}: MLflow's points of {metric} differ in {len((stored - told) + (told - stored))}")
    return wrong


def _optuna_differences(directory: StudyDir) -> list[str]:
    import optuna

    storage = open_storage(None, directory.journal)
    wrong = []
    for name in optuna.get_all_study_names(storage):
        trials = optuna.load_study(study_name=name, storage=storage).get_trials()
        counted = [trial for trial in trials if "duplicate_of" not in trial.user_attrs]
        points = [json.dumps(trial.params, sort_keys=True) for trial in counted]
        if [trial.state.name for trial in counted] != ["COMPLETE"] * 3 or len(set(points)) != 3:
            wrong.append(f"Optuna's {name}: {[(trial.state.name, trial.params) for trial in trials]}")
        for trial in counted:
            (name_of_run,) = trial.user_attrs["runs"]
            run = RunDir(directory.runs / name_of_run)
            lines = [line["metrics"] for line in read_lines(run.metrics)]
            told = [line["eval/accuracy"] for line in lines if "eval/accuracy" in line]
            if trial.values != [told[-1]]:
                wrong.append(f"Optuna's {name}, trial {trial.number}: {trial.values} for {told[-1]}")
    return wrong


def main() -> int:
    """Cycles until there were enough signals or time is over; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--per-cycle", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--pretend", action="store_true", help="runs that only pretend to train: more signals an hour")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    end_s = time.monotonic() + 60 * arguments.minutes
    place = Path(tempfile.mkdtemp(prefix="lora-bench-kills-"))
    moments = random.Random(arguments.seed)
    program = ["tests/support/pretend_study.py"] if arguments.pretend else ["run.py", "-m"]
    common = [*program, *WORDS, *(["training.max_steps=400"] if arguments.pretend else [])]
    record: dict[str, Any] = {
        "seed": arguments.seed,
        "command": list(common),
        "grid": GRID,
        "search": SEARCH,
        "cycles": [],
    }
    common.append(f"paths.cache={place}/cache")
    reference = Command(place / "reference", [*common, *GRID], place / "reference.log")
    assert reference.process.wait() == 0, (place / "reference.log").read_text()
    num_sent = 0
    while num_sent < arguments.kills and time.monotonic() < end_s:
        index = len(record["cycles"])
        is_search = index % 2 == 1
        root = place / f"cycle-{index}"
        cycle = carry_out(root, [*common, *(SEARCH if is_search else GRID)], moments, num_kills=arguments.per_cycle)
        cycle["wrong"] += differences(root, place / "reference", is_search=is_search)
        num_sent += len(cycle["sent"])
        record["cycles"].append({"kind": "search" if is_search else "grid", **cycle})
        summarise(record)
        write_json(arguments.out, record)
        print(
            f"cycle {index}: {len(cycle['sent'])} signals, {len(cycle['wrong'])} wrong; {num_sent} in all", flush=True
        )
        for line in cycle["wrong"]:
            print(f"  {line}", flush=True)
        if not cycle["wrong"]:
            shutil.rmtree(root)
    return 1 if record["summary"]["wrong"] else 0


def summarise(record: dict[str, Any]) -> None:
    """Adds the counts of all cycles so far."""
    sent = [one for cycle in record["cycles"] for one in cycle["sent"]]
    record["summary"] = {
        "cycles": len(record["cycles"]),
        "signals": len(sent),
        "by_kind": dict(sorted(Counter(f"{one['signal']} to {one['victim']}" for one in sent).items())),
        "commands": sum(sum(cycle["exit_codes"].values()) for cycle in record["cycles"]),
        "retries": sum(cycle["retries"] for cycle in record["cycles"]),
        "wrong": sum(len(cycle["wrong"]) for cycle in record["cycles"]),
    }


if __name__ == "__main__":
    sys.exit(main())
