"""The commands of `lora-bench` that concern studies. Imports what a command needs when it runs."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lora_bench.errors import StudyError, suggest

if TYPE_CHECKING:
    from rich.console import Console

    from lora_bench.search.overview import Overview
    from lora_bench.search.studydir import StudyDir

REFRESH_S = 2.0
RETRIED = ("failed", "oom", "diverged", "pruned")
"""Statuses that a retry can be asked for; a finished run is trained once more with `again=2`."""


def show_studies(arguments: argparse.Namespace) -> int:
    """`lora-bench studies`."""
    from lora_bench.search.overview import describe, read_overview
    from lora_bench.search.studydir import find_study_dirs

    overviews = [read_overview(directory) for directory in find_study_dirs(Path(arguments.root))]
    if arguments.json:
        _print_json([{**describe(overview), "trials": len(overview.rows)} for overview in overviews])
        return 0
    if not overviews:
        print("no study yet; `python run.py -m lora.r=1,4` starts one")
    for overview in overviews:
        best = overview.best(overview.arms[0]) if overview.arms else None
        metric = overview.objectives[0].metric
        found = f", best {metric} {best.metrics[metric]:.4g} (trial {best.line.number})" if best else ""
        done, total = (overview.progress.get(key, 0) for key in ("num_done", "num_runs"))
        print(f"{overview.name}  {overview.state}  {done} of {total} runs{found}")
    return 0


def show_study(arguments: argparse.Namespace) -> int:
    """`lora-bench study NAME`: once, or again and again while it runs and somebody looks."""
    from rich.console import Console

    from lora_bench.report.ranking import ranking_json
    from lora_bench.report.ranking_table import render_ranking
    from lora_bench.search.overview import describe, read_overview
    from lora_bench.search.ranking import rank_methods
    from lora_bench.search.summary import render_overview

    directory = _find(arguments)
    overview = read_overview(directory)
    if arguments.json:
        _print_json({**describe(overview), "rankings": list(map(ranking_json, rank_methods(overview)))})
        return 0
    console = Console()
    is_watched = overview.state == "running" and console.is_terminal
    if is_watched:
        overview = _watch(directory, console=console)
    rankings = rank_methods(overview)
    if not is_watched:
        console.print(render_overview(overview, is_ranked=bool(rankings)))
    for ranking in rankings:
        console.print()
        render_ranking(ranking, console=console)
    return 0


def _watch(directory: StudyDir, *, console: Console) -> Overview:
    """Shows a study until it no longer runs; returns what was shown last."""
    from rich.live import Live

    from lora_bench.search.overview import read_overview
    from lora_bench.search.summary import render_overview

    overview = read_overview(directory)
    with Live(render_overview(overview), console=console, auto_refresh=False) as live:
        while overview.state == "running":
            time.sleep(REFRESH_S)
            overview = read_overview(directory)
            live.update(render_overview(overview), refresh=True)
    return overview


def retry_study(arguments: argparse.Namespace) -> int:
    """`lora-bench retry STUDY --status failed,oom`: moves those records aside and goes on with the study."""
    from rich.console import Console

    from lora_bench.rundir import RunDir
    from lora_bench.search.sweep import sweep

    statuses = [word.strip() for word in arguments.status.split(",")]
    for status in statuses:
        if status not in RETRIED:
            raise StudyError(f"--status: '{status}'{suggest(status, RETRIED)}; accepted: {', '.join(RETRIED)}")
    directory = _find(arguments)
    num_moved = 0
    with directory.hold():
        for run in (RunDir(directory.runs / name) for line in directory.read_trials() for name in line.runs):
            result = run.read_result()
            if result is not None and result.status in statuses:
                run.archive_failure()
                num_moved += 1
    print(f"{num_moved} runs of {directory.path.name} to be tried again")
    if not num_moved:
        return 0
    return sweep(_command(directory, arguments), console=Console())


def stop_study(arguments: argparse.Namespace) -> int:
    """`lora-bench stop STUDY`: as Ctrl-C in its terminal, once."""
    directory = _find(arguments)
    pid = directory.stop_holder()
    if pid is None:
        print(f"{directory.path.name}: no controller carries it out")
        return 0
    print(f"{directory.path.name}: process {pid} was asked to stop; its runs checkpoint first")
    return 0


def rebuild_study(arguments: argparse.Namespace) -> int:
    """`lora-bench rebuild STUDY`: Optuna's study and the MLflow runs, from the run directories."""
    from lora_bench.search.rebuild import rebuild

    directory = _find(arguments)
    num_trials, problems = rebuild(directory, _command(directory, arguments))
    print(f"{directory.path.name}: made again from {num_trials} trials and their runs")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


Command = tuple[str, Callable[[argparse.Namespace], int], str]
COMMANDS: tuple[Command, ...] = (
    ("studies", show_studies, "list the studies with state, progress and best so far"),
    ("study", show_study, "show a study: its trials, the best of each method, their ranking; live while it runs"),
    ("retry", retry_study, "try the runs of a study again that ended badly, and go on with it"),
    ("stop", stop_study, "ask the controller of a study to checkpoint its runs and stop"),
    ("rebuild", rebuild_study, "make the Optuna study and the MLflow runs of a study again from its run directories"),
)


def add_arguments(commands: Mapping[str, argparse.ArgumentParser]) -> None:
    """What these commands take beside `--root` and `--json`."""
    for name in ("study", "retry", "stop", "rebuild"):
        commands[name].add_argument("study", metavar="STUDY", help="name of the study, see `lora-bench studies`")
    commands["retry"].add_argument("--status", default="failed", help="statuses, with commas between (%(default)s)")


def _find(arguments: argparse.Namespace) -> StudyDir:
    from lora_bench.search.studydir import find_study_dirs

    known = {directory.path.name: directory for directory in find_study_dirs(Path(arguments.root).absolute())}
    if arguments.study not in known:
        near = suggest(arguments.study, known)
        names = ", ".join(known) or "none"
        raise StudyError(f"no study '{arguments.study}' in {Path(arguments.root).absolute()}{near}; studies: {names}")
    return known[arguments.study]


def _command(directory: StudyDir, arguments: argparse.Namespace) -> list[str]:
    """The command that asked the study, wherever it is given from."""
    words = [word for word in directory.read_question()["command"] if not word.startswith("paths.root=")]
    name = [] if any(word.startswith("study.name=") for word in words) else [f"study.name={directory.path.name}"]
    return [*words, *name, f"paths.root={Path(arguments.root).absolute()}"]


def _print_json(data: object) -> None:
    from lora_bench.rundir import finite

    print(json.dumps(finite(data), indent=1))
