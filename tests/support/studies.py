"""Studies whose runs pretend to train, in processes of their own that may be killed, and what they must have left."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support import mlflow_rows

from lora_bench import rundir
from lora_bench.rundir import RunDir, find_run_dirs
from lora_bench.search.storage import open_storage
from lora_bench.search.studydir import StudyDir, find_study_dirs

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "support" / "pretend_study.py"
RATE = "training.lr=tag(log,interval(1e-5,1e-1))"
VIEW = "-all"
ENDS = {"finished", "pruned", "diverged", "oom", "failed"}


def last_of_each(*words: str) -> list[str]:
    """Return the words with the last value of each key, since a key that is given twice is refused."""
    return list({word.split("=", 1)[0]: word for word in words}.values())


class PretendedStudy:
    """One study with a root of its own."""

    def __init__(self, root: Path, words: Sequence[str], *, prefix: Sequence[str] = ()) -> None:
        """Starts nothing; `words` are what every command has in common, after a prefix such as `nsenter`."""
        self.root = root
        self.words = [*words, f"paths.root={root}"]
        self._prefix = prefix

    def start(self, *words: str, start_new_session: bool = False) -> subprocess.Popen[str]:
        """The study in a process of its own, with further words."""
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
        command = [*self._prefix, sys.executable, str(SCRIPT), *last_of_each(*self.words, *words)]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=start_new_session,
        )

    def finish(self, *words: str, code: int = 0) -> str:
        """The same to its end; returns what it said."""
        process = self.start(*words)
        try:
            out, _ = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            process.kill()  # its runs end with it
            out, _ = process.communicate()
        assert process.returncode == code, out
        return out

    @property
    def directory(self) -> StudyDir:
        """The folder of the only study in the root."""
        (directory,) = find_study_dirs(self.root)
        return directory

    def runs(self) -> list[RunDir]:
        """Every run that was begun."""
        return find_run_dirs(self.root)

    def statuses(self) -> Counter[str]:
        """Of the results on disk."""
        found = [json.loads(run.result.read_text())["status"] for run in self.runs() if run.result.exists()]
        return Counter(found)

    def wait_for_a_run(self, process: subprocess.Popen[str]) -> None:
        """Until a run is under way, or the study has ended."""
        end = time.monotonic() + 60
        while process.poll() is None and not any(run.is_held() for run in self.runs()):
            assert time.monotonic() < end, "no run began"
            time.sleep(0.02)

    def wait_for_results(self, process: subprocess.Popen[str], *, number: int) -> None:
        """Until so many runs have a result, or the study has ended."""
        end = time.monotonic() + 120
        while process.poll() is None and sum(self.statuses().values()) < number:
            assert time.monotonic() < end, f"no {number} results"
            time.sleep(0.05)

    def kill_at_random_moments(self, *words: str, num_kills: int, seed: int) -> None:
        """SIGKILL of the controller: in the middle of runs; every fourth time while the study is being taken up."""
        moments, num_in_the_middle = random.Random(seed), 0
        for index in range(num_kills):
            process = self.start(*words)
            if index % 4 < 3:
                self.wait_for_a_run(process)
            time.sleep(moments.random())
            process.kill()
            process.communicate()
            num_in_the_middle += any(not run.result.exists() for run in self.runs())
        assert num_in_the_middle >= 1, "no kill hit a run"

    def optuna_trials(self, url: str | None = None) -> dict[str, list[Any]]:
        """Name of each arm in Optuna -> its trials."""
        return {name: trials for name, trials in self._in_optuna(url).items() if not name.endswith(VIEW)}

    def viewed_trials(self, url: str | None = None) -> list[Any]:
        """What `optuna-dashboard` shows of both methods."""
        (trials,) = (trials for name, trials in self._in_optuna(url).items() if name.endswith(VIEW))
        return trials

    def _in_optuna(self, url: str | None) -> dict[str, list[Any]]:
        import optuna

        storage = open_storage(url, self.directory.journal)
        names = optuna.get_all_study_names(storage)
        return {name: optuna.load_study(study_name=name, storage=storage).get_trials() for name in names}

    def check_each_once(self, *, num_trials: int, num_seeds: int = 1, url: str | None = None) -> None:
        """A search with a baseline has each trial that was asked for once: on disk, on record and in Optuna."""
        runs = [name for line in self.directory.read_trials() for name in line.runs]
        on_disk = [run.path.name for run in self.runs()]
        assert len(set(runs)) == len(runs)
        assert sorted(runs) == sorted(on_disk)
        assert len(on_disk) == 2 * num_trials * num_seeds
        assert set(self.statuses()) <= ENDS
        assert sum(self.statuses().values()) == len(on_disk)
        arms = self.optuna_trials(url)
        assert len(arms) == 2
        for trials in arms.values():
            assert [trial.state.name for trial in trials].count("RUNNING") == 0
            counted = [trial for trial in trials if "duplicate_of" not in trial.user_attrs]
            assert len(counted) == num_trials
            points = [json.dumps(trial.params, sort_keys=True) for trial in counted]
            assert len(set(points)) == len(points)
        told = [(trial.state.name, trial.values) for trials in arms.values() for trial in trials]
        viewed = self.viewed_trials(url)
        assert sorted(map(repr, told)) == sorted(repr((trial.state.name, trial.values)) for trial in viewed)
        assert not list(self.root.rglob(f"result.json{rundir.TEMPORARY_MARK}*"))

    def check_each_once_in_mlflow(self, store: Path | str) -> None:
        """Each run on disk is one run of the store, with each of its points, and none is left running."""
        names = mlflow_rows.run_names(store)
        assert names == Counter([*(run.path.name for run in self.runs()), self.directory.path.name])
        assert mlflow_rows.rows(store, "SELECT name FROM runs WHERE status = 'RUNNING'") == []
        for run in self.runs():
            assert mlflow_rows.points(store, run, "train/loss") == mlflow_rows.told_points(run, "train/loss")
