"""Step time, memory and loss of every backend on two processes, beside one process, for LoRA and full fine-tuning.

    python benchmarks/backends.py --out results/backends.json [--rounds 2] [--steps 30] [--dtype fp32]

Each round trains every case once, in turn, through `run.py` in a fresh `paths.root`: the same texts in the same order,
without dropout, so that the losses can be compared. One process has both threads, two have one each. Step times are
medians of a run's steps; memory is live tensor bytes at the peak of one step, the largest process's and the sum. On a
CPU this shows what the wiring costs and what a backend splits, not what a GPU would gain.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from surroundings import describe_machine, others_busy_s

from lora_bench.records import RunResult
from lora_bench.rundir import find_run_dirs, write_json

REPOSITORY = Path(__file__).resolve().parents[1]
METHODS = ("lora", "full")
BACKENDS = ("single", "ddp", "fsdp", "zero1", "zero2", "zero3", "zero3_offload")
MIB = 2**20


def main() -> int:
    """Trains, prints the table and writes the record after each round."""
    options = read_options()
    cases = [(method, backend) for method in METHODS for backend in options.backends]
    found: dict[tuple[str, str], list[RunResult]] = {case: [] for case in cases}
    busy_s = others_busy_s()
    for number in range(options.rounds):
        for case in cases:
            print(f"round {number + 1}: {' '.join(case)}", file=sys.stderr, flush=True)
            found[case].append(train(*case, options))
        rows = [summarise(case, found) for case in cases]
        record = {
            "command": " ".join(sys.argv),
            "machine": describe_machine(),
            "others_busy_s": others_busy_s() - busy_s,
            "commit": found[cases[0]][0].provenance.commit,
            "rounds": number + 1,
            "rows": rows,
        }
        if options.out is not None:
            write_json(options.out, record)
    show(rows)
    return 0


def read_options() -> argparse.Namespace:
    """What the user typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--dtype", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--model", default="minilm")
    # Each process takes a GPU of its own, where there are any.
    possible = BACKENDS[:1] if torch.cuda.device_count() == 1 else BACKENDS
    parser.add_argument("--backends", nargs="+", default=possible, choices=BACKENDS)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def train(method: str, backend: str, options: argparse.Namespace) -> RunResult:
    """One run in processes of its own; its record."""
    with tempfile.TemporaryDirectory() as root:
        words = [
            f"model={options.model}",
            f"method={method}",
            f"processes={backend}",
            f"training.max_steps={options.steps}",
            f"training.dtype={options.dtype}",
            "training.dropout=0",
            "training.eval_every=0",
            "task.num_eval=200",
            "executor.threads_per_run=2",
            f"paths.root={root}",
        ]
        environment = os.environ | {"OMP_NUM_THREADS": "2"}
        subprocess.run(
            [sys.executable, str(REPOSITORY / "run.py"), *words], env=environment, check=True, stdout=subprocess.DEVNULL
        )
        (run,) = find_run_dirs(Path(root))
        result = run.read_result()
    assert result is not None, "run.py ends with a record"
    return result


def summarise(case: tuple[str, str], found: dict[tuple[str, str], list[RunResult]]) -> dict[str, Any]:
    """One row: medians over rounds, with the smallest and the largest step time."""
    method, backend = case
    own, alone = found[case], found[method, "single"]
    steps = [result.timing.step_median_ms for result in own]
    ratios = [
        mine.timing.step_median_ms / theirs.timing.step_median_ms for mine, theirs in zip(own, alone, strict=True)
    ]
    memory, total = own[0].memory, own[0].processes.memory_sum if own[0].processes else own[0].memory
    return {
        "method": method,
        "backend": backend,
        "processes": own[0].processes.count if own[0].processes else 1,
        "step_ms": statistics.median(steps),
        "step_ms_range": [min(steps), max(steps)],
        "step_ratio_to_one_process": statistics.median(ratios),
        "step_ratio_range": [min(ratios), max(ratios)],
        "peak_tensor_mib_max": memory.peak_tensor_bytes / MIB,
        "peak_tensor_mib_sum": total.peak_tensor_bytes / MIB,
        "weight_mib_max": memory.weight_bytes / MIB,
        "optimizer_mib_max": memory.optimizer_bytes / MIB,
        "gradient_mib_max": memory.gradient_bytes / MIB,
        "peak_rss_mib_max": memory.peak_train_rss_bytes / MIB,
        "final_train_loss": own[0].final_train_loss,
        "loss_difference_to_one_process": own[0].final_train_loss - alone[0].final_train_loss,
        "weights_bytes": own[0].sizes.weights_bytes,
    }


def show(rows: list[dict[str, Any]]) -> None:
    """The table for a terminal."""
    table = Table(box=None, pad_edge=False)
    columns = (
        "method",
        "backend",
        "step ms (range)",
        "of one process",
        "peak MiB, largest",
        "in all",
        "loss",
        "to one",
    )
    for name in columns:
        table.add_column(name, justify="left" if name in columns[:2] else "right", no_wrap=True)
    for row in rows:
        low, high = row["step_ratio_range"]
        table.add_row(
            row["method"],
            row["backend"],
            f"{row['step_ms']:.0f}",
            f"{row['step_ratio_to_one_process']:.2f} ({low:.2f} to {high:.2f})",
            f"{row['peak_tensor_mib_max']:.0f}",
            f"{row['peak_tensor_mib_sum']:.0f}",
            f"{row['final_train_loss']:.6f}",
            f"{row['loss_difference_to_one_process']:+.1e}",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
