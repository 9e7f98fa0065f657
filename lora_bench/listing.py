"""`lora-bench runs`: which runs, what each is called, and the columns of the list."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lora_bench.report import Record
    from lora_bench.report.labels import Varied
    from lora_bench.report.select import Selection

NAME_INDENT = "    "
"""Before a name that stands under its run, where a line has no room for it."""


def add_selection(command: argparse.ArgumentParser) -> None:
    """Add the options that choose and order runs."""
    command.add_argument("--study", metavar="STUDY", help="the runs of this study, see `lora-bench studies`")
    command.add_argument("--status", metavar="STATUS", help="finished, running, failed and so on, with commas between")
    command.add_argument("--model", metavar="MODEL", help="models, with commas between")
    command.add_argument("--method", metavar="METHOD", help="methods, with commas between")
    command.add_argument("--last", metavar="N", type=_count, help="the N newest")
    command.add_argument("--sort", metavar="KEY", help="score, newest, lr, r, memory, ..., or training.batch_size")


def selection_from(arguments: argparse.Namespace) -> Selection:
    """Return what the options ask for.

    Raises:
        StudyError: If there is no study of that name.
    """
    from lora_bench.report.select import Selection

    runs = None
    if arguments.study is not None:
        from lora_bench.search.commands import find_study

        trials = find_study(arguments.study, Path(arguments.root).absolute()).read_trials()
        runs = frozenset(name for line in trials for name in line.runs)
    return Selection(
        runs=runs,
        statuses=_names(arguments.status),
        models=_names(arguments.model),
        methods=_names(arguments.method),
        last=arguments.last,
        sort=arguments.sort,
    )


def describe(record: Record, varied: Varied) -> dict[str, Any]:
    """Return a run as `lora-bench runs --json` shows it."""
    from lora_bench.config.resolve import plain_digest
    from lora_bench.report.labels import run_label, study_of

    result, config = record.result, record.config
    score = result.score(result.headline) if result else None
    chosen_by = result.choosing_score(result.headline) if result else None
    return {
        "name": record.run.path.name,
        "path": str(record.run.path.absolute()),
        "label": run_label(record, varied),
        "study": study_of(record),
        "status": record.state,
        "config_digest": result.config_digest if result else plain_digest(config),
        "model": config["model"]["name"],
        "task": config["task"]["name"],
        "method": config["method"]["name"],
        "r": (config.get("lora") or {}).get("r"),
        "lr": config["training"]["lr"],
        "seed": config["seed"],
        "steps": result.steps if result else int(record.run.read_status().get("step", 0)),
        "headline": score.name if score else None,
        "value": score.value if score else None,
        "ci_low": score.ci_low if score else None,
        "ci_high": score.ci_high if score else None,
        "validation_value": chosen_by.value if chosen_by and result and result.validation else None,
        "trainable_parameters": result.sizes.trainable_parameters if result and result.sizes else None,
        "peak_training_bytes": result.memory.peak_tensor_bytes if result and result.memory else None,
        "checkpoint_bytes": result.sizes.weights_bytes if result and result.sizes else None,
        "step_median_ms": result.timing.step_median_ms if result and result.timing else None,
        "error": result.error if result else None,
    }


def print_runs(entries: Sequence[dict[str, Any]], *, with_paths: bool) -> None:
    """Print aligned columns; the name is last because it is long, and whole because it is copied.

    In a terminal without room for it, the name stands under its run.
    """
    heads = ("status", "step", "score", "what", "path" if with_paths else "run")
    rows = [heads]
    for entry in entries:
        score = f"{entry['headline']} {entry['value']:.3f}" if entry["headline"] else "-"
        name = os.path.relpath(entry["path"]) if with_paths else entry["name"]
        rows.append((entry["status"], str(entry["steps"]), score, entry["label"], name))
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    is_folded = sys.stdout.isatty() and sum(widths) + 2 * (len(heads) - 1) > shutil.get_terminal_size().columns
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if is_folded:
            print("  ".join(cells[:-1]).rstrip(), f"{NAME_INDENT}{row[-1]}", sep="\n")
        else:
            print("  ".join(cells).rstrip())


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip()) if text is not None else ()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")
    return int(text)
