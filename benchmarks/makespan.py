"""Wall time of the runs of a rank study, beside the same runs as a shell loop over a plain Trainer script.

    python benchmarks/makespan.py --out results/makespan.json

    study_bf16, study_fp32     python run.py -m lora.r=1,4,8,64 seed=0,1 study.n_jobs=... in a fresh paths.root
    script_fp32, script_bf16   for each r and seed, one after the other: python plain_trainer.py --r ... --seed ...
    script_..._longest         the same with each batch padded to its longest text, not to the maximum length

Model: MiniLM; task: tweet_sentiment. All take the same steps on the same texts from the same weights, with the same
adapters, rate, warm-up, batch size, clipping and optimiser, and are judged once, at the end, on the same items;
this is checked where it can be (ranks, seeds, steps, items, trained parameters) and the accuracies are printed. The
orders of the texts and the dropout masks differ. Each side writes an adapter and a checkpoint with the optimiser's
state; a study also its records, its predictions and MLflow's store, all of which is in its time.

Contestants take turns (A B C A B C ...), each begins when nothing of the last one runs any more, and caches are warm:
each kind has run once before. `wall_parts.py` says what the parts are. With its defaults it takes about 25 minutes on
two idle cores; killed, it loses the turn under way, and `--out` has the others.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ratios import CONTESTANTS, NOTES, print_summary, summarise
from surroundings import adopt_orphans, describe_machine, others_busy_s, wait_for_leftovers
from wall_parts import Makespan, check_equal_work, ordered, script_end, script_parts, study_makespan

from lora_bench.config.overrides import compose_config
from lora_bench.config.resolve import resolve
from lora_bench.config.schema import RunConfig
from lora_bench.errors import MeasurementError
from lora_bench.models.catalog import locate
from lora_bench.rundir import write_json
from lora_bench.tasks import load_task

REPOSITORY = Path(__file__).resolve().parents[1]
RANKS = (1, 4, 8, 64)


@dataclass(frozen=True)
class Bench:
    """What all contestants are started with."""

    options: argparse.Namespace
    config: RunConfig
    """Of a study's runs; the script takes its settings from it as well."""
    model: Path
    work: Path
    """Temporary folder with the texts, and with what the contestants write."""

    @property
    def environment(self) -> dict[str, str]:
        """Of every process that is measured."""
        own = {
            "OMP_NUM_THREADS": self.options.threads,
            "HF_HUB_OFFLINE": 1,
            "HF_DATASETS_CACHE": self.work / "datasets",
        }
        return os.environ | {name: str(value) for name, value in own.items()}

    def study_command(self, root: Path, *words: str) -> list[str]:
        """A command of ours; words about the runs that it is to make are added."""
        command = [sys.executable, str(REPOSITORY / "run.py"), *words, *run_words(self.options)]
        return [*command, f"executor.threads_per_run={self.options.threads // self.options.jobs}", f"paths.root={root}"]

    def script_command(self, out: Path, *, rank: int, seed: int, words: Sequence[str]) -> list[str]:
        """One run of the script; further words come last and so have the last say."""
        training, lora = self.config.training, self.config.lora
        assert lora is not None, "a rank study trains LoRA"
        settings = {
            "model": self.model, "train-file": self.work / "train.csv", "eval-file": self.work / "eval.csv", "out": out,
            "r": rank, "seed": seed, "alpha": lora.alpha, "lora-dropout": lora.dropout, "lr": training.lr,
            "steps": training.max_steps, "warmup-steps": round(training.warmup_ratio * training.max_steps),
            "schedule": training.schedule.value, "weight-decay": training.weight_decay,
            "max-grad-norm": training.max_grad_norm, "batch-size": training.batch_size,
            "eval-batch-size": training.eval_batch_size, "max-length": self.config.task.max_length,
            "log-every": training.log_every,
        }  # fmt: skip
        script = [sys.executable, str(Path(__file__).with_name("plain_trainer.py"))]
        return [*script, *(word for name, value in settings.items() for word in (f"--{name}", str(value))), *words]


def run_words(options: argparse.Namespace) -> list[str]:
    """What is said to ours about each run: the rest stays at its default."""
    num_train = "null" if options.num_train is None else options.num_train
    words = {
        "training.max_steps": options.steps, "training.eval_every": 0, "training.checkpoint_every": 0,
        "task.num_train": num_train,
        # The script has one rate for all that it trains, and scores as many items, in one split.
        "training.head_lr": "null",
        "task.num_validation": options.num_eval // 2, "task.num_eval": options.num_eval - options.num_eval // 2,
    }  # fmt: skip
    return [f"{name}={value}" for name, value in words.items()]


def prepare(options: argparse.Namespace, work: Path) -> Bench:
    """Writes the texts as files for the script."""
    config = resolve(compose_config(run_words(options)))
    data = load_task(config.task)
    for name, examples in (("train", data.train), ("eval", data.validation + data.test)):
        with open(work / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["text", "label"])
            rows.writerows((item.text, item.label) for item in examples)
    return Bench(options, config, locate(config.model), work)


def warm_up(bench: Bench) -> None:
    """One short run of each kind, so that nobody is the first to tokenise or to read a library from disk."""
    names = bench.options.contestants
    if any(name.startswith("study") for name in names):
        run_command([*bench.study_command(bench.work / "warm"), "training.max_steps=1"], bench)
    for padding in sorted({padding_of(name) for name in names if name.startswith("script")}):
        words = ["--steps", "1", "--padding", padding]
        run_command(bench.script_command(bench.work / "warm", rank=1, seed=0, words=words), bench)


def padding_of(contestant: str) -> str:
    """Of a script's batches."""
    return "longest" if contestant.endswith("_longest") else "max_length"


def ranks_and_seeds(num_runs: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The grid that has so many runs."""
    return RANKS[:num_runs], tuple(range(max(1, num_runs // len(RANKS))))


def run_contestant(contestant: str, bench: Bench) -> Makespan:
    """All runs of one contestant, once."""
    out = bench.work / contestant
    try:
        return (run_study if contestant.startswith("study") else run_loop)(contestant, bench, out)
    finally:
        shutil.rmtree(out, ignore_errors=True)


def run_study(contestant: str, bench: Bench, root: Path) -> Makespan:
    """One command of ours."""
    ranks, seeds = (",".join(map(str, values)) for values in ranks_and_seeds(bench.options.runs))
    words = ["-m", f"lora.r={ranks}", f"seed={seeds}", f"training.dtype={contestant.split('_')[1]}"]
    words += ["study.baseline=null", f"study.n_jobs={bench.options.jobs}"]
    spawned_at, exited_at = run_command(bench.study_command(root, *words), bench)
    num_slots = min(bench.options.jobs, bench.options.runs)
    return study_makespan(contestant, root, spawned_at=spawned_at, exited_at=exited_at, num_slots=num_slots)


def run_loop(contestant: str, bench: Bench, folder: Path) -> Makespan:
    """The script once for each run, as a shell loop would."""
    words = ["--padding", padding_of(contestant), *(["--bf16"] if "bf16" in contestant else [])]
    runs, parts = [], Counter[str]()
    for seed, rank in itertools.product(*reversed(ranks_and_seeds(bench.options.runs))):
        out = folder / f"r{rank}-seed{seed}"
        spawned_at, exited_at = run_command(bench.script_command(out, rank=rank, seed=seed, words=words), bench)
        parts.update(script_parts(out, spawned_at=spawned_at, exited_at=exited_at))
        runs.append(script_end(out, rank=rank, seed=seed))
    return Makespan(contestant, parts.total(), ordered(parts), runs)


def run_command(command: Sequence[str], bench: Bench) -> tuple[float, float]:
    """When the command began and ended (seconds since 1970); returns when nothing that it started is left.

    Raises:
        MeasurementError: If it failed; with the end of what it printed.
    """
    log = bench.work / "log.txt"
    with open(log, "w", encoding="utf-8") as file:
        spawned_at = time.time()
        done = subprocess.run(command, cwd=REPOSITORY, env=bench.environment, stdout=file, stderr=subprocess.STDOUT)
        exited_at = time.time()
    wait_for_leftovers()
    if done.returncode != 0:
        tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise MeasurementError(f"exit code {done.returncode} of {shlex.join(command)}\n{tail}")
    return spawned_at, exited_at


def read_options() -> argparse.Namespace:
    """The command line."""
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="JSON file for everything that was measured, written after each turn")
    parser.add_argument("--steps", type=int, default=50, help="optimiser steps of a run")
    parser.add_argument("--runs", type=int, default=8, help="1 to 4 (ranks), or a multiple of 4 (ranks times seeds)")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each contestant")
    parser.add_argument("--threads", type=int, default=cores, help="cores that each contestant may use")
    parser.add_argument("--jobs", type=int, help="runs of a study at a time, which share the threads; default: threads")
    parser.add_argument("--num-train", type=int, help="training texts; default: all")
    parser.add_argument("--num-eval", type=int, default=1000)
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=CONTESTANTS)
    options = parser.parse_args()
    options.jobs = options.jobs or options.threads
    if not 1 <= options.runs <= len(RANKS) and options.runs % len(RANKS):
        parser.error(f"--runs {options.runs} is neither 1 to {len(RANKS)} nor a multiple of {len(RANKS)}")
    if not 1 <= options.jobs <= options.threads:
        parser.error(f"--jobs {options.jobs} is not in 1 to --threads {options.threads}")
    return options


def main() -> None:
    """Runs all rounds, prints the tables and writes everything that was measured."""
    options, described = read_options(), describe_machine()
    settings = {name: value for name, value in vars(options).items() if name != "out"}
    record = {"command": shlex.join(sys.orig_argv), "settings": settings, "machine": described, "notes": NOTES}
    adopt_orphans()
    makespans: list[Makespan] = []
    other_cores: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = prepare(options, Path(folder))
        warm_up(bench)
        for turn, contestant in itertools.product(range(options.rounds), options.contestants):
            start_s, start_others_s = time.perf_counter(), others_busy_s()
            makespans.append(run_contestant(contestant, bench))
            other_cores.append((others_busy_s() - start_others_s) / (time.perf_counter() - start_s))
            wall_s = makespans[-1].wall_s
            print(
                f"round {turn + 1} {contestant:20} {wall_s:7.1f} s, other processes {other_cores[-1]:.2f} cores",
                flush=True,
            )
            check_equal_work(makespans)
            summary = summarise(makespans, options.steps)
            if options.out:
                members = [asdict(one) for one in makespans]
                write_json(options.out, record | {"other_cores": other_cores, **summary, "makespans": members})
    print_summary(summary)


if __name__ == "__main__":
    main()
