"""The commands of `lora-bench` that concern studies. Imports what a command needs when it runs."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lora_bench.diskpaths import reading_problem
from lora_bench.errors import LoraBenchError, RecordError, StudyError, UsageError, suggest
from lora_bench.redact import shown

if TYPE_CHECKING:
    from rich.console import Console

    from lora_bench.search.influence import Influence
    from lora_bench.search.overview import Overview
    from lora_bench.search.studydir import StudyDir

REFRESH_S = 2.0
RETRIED = ("failed", "oom", "diverged", "pruned")
"""Statuses that a retry can be asked for; a finished run is trained once more with `again=2`."""


def show_studies(arguments: argparse.Namespace) -> int:
    """`lora-bench studies`."""
    from lora_bench.search.overview import describe, read_overview
    from lora_bench.search.studydir import find_study_dirs

    root = _root(arguments)
    overviews, problems = [], []
    for directory in find_study_dirs(root):
        try:
            overviews.append(read_overview(directory))
        except RecordError as err:
            problems.append(str(err))
    problems += [problem for overview in overviews for problem in overview.problems]
    code = _print_problems(problems)
    if arguments.json:
        _print_json([{**describe(overview), "trials": len(overview.rows)} for overview in overviews])
        return code
    if not overviews and not problems:
        print(f"no study in {root} yet; `python run.py -m lora.r=1,4` starts one")
    for overview in overviews:
        best = overview.best(overview.arms[0]) if overview.arms else None
        metric = overview.objectives[0].metric
        found = f", best {metric} {best.metrics[metric]:.4g} (trial {best.line.number})" if best else ""
        done, total = (overview.progress.get(key, 0) for key in ("num_done", "num_runs"))
        print(f"{overview.name}  {overview.state}  {done} of {total} runs{found}")
    return code


def show_study(arguments: argparse.Namespace) -> int:
    """`lora-bench study NAME`: once, or again and again while it runs and somebody looks."""
    from lora_bench.console import build_console
    from lora_bench.report.ranking import ranking_json
    from lora_bench.report.ranking_table import render_ranking
    from lora_bench.search.influence import influence_json
    from lora_bench.search.overview import describe, read_overview
    from lora_bench.search.ranking import rank_methods
    from lora_bench.search.summary import render_overview

    directory = _find(arguments)
    if arguments.optuna:
        return _show_optuna(directory, arguments)
    overview = read_overview(directory)
    code = _print_problems(overview.problems)
    if arguments.json:
        found = {"rankings": list(map(ranking_json, rank_methods(overview)))}
        _print_json({**describe(overview), "importances": influence_json(_influence(directory)), **found})
        return code
    console = build_console()
    is_watched = overview.state == "running" and console.is_terminal
    if is_watched:
        overview = _watch(directory, console=console)
    rankings = rank_methods(overview)
    if not is_watched:
        console.print(render_overview(overview, found=_influence(directory), is_ranked=bool(rankings)))
    for ranking in rankings:
        console.print()
        render_ranking(ranking, console=console)
    return code


def _print_problems(problems: Sequence[str]) -> int:
    """Says once what is damaged; returns the exit code."""
    for problem in dict.fromkeys(problems):
        print(shown(problem), file=sys.stderr)
    return 1 if problems else 0


def _watch(directory: StudyDir, *, console: Console) -> Overview:
    """Shows a study until it no longer runs; returns what was shown last."""
    from rich.live import Live

    from lora_bench.search.overview import read_overview
    from lora_bench.search.summary import render_overview

    overview, found = read_overview(directory), _influence(directory)
    with Live(render_overview(overview, found=found), console=console, auto_refresh=False) as live:
        while overview.state == "running":
            time.sleep(REFRESH_S)
            before, overview = overview.counts, read_overview(directory)
            if overview.counts != before:
                found = _influence(directory)
            live.update(render_overview(overview, found=found), refresh=True)
    return overview


def _influence(directory: StudyDir) -> Influence:
    """What each parameter matters; nothing where a record cannot be read, which is said beside the rest."""
    from lora_bench.search.influence import recorded_influence

    try:
        return recorded_influence(directory)
    except LoraBenchError as err:
        print(err, file=sys.stderr)
        return {}


def _show_optuna(directory: StudyDir, arguments: argparse.Namespace) -> int:
    """Brings Optuna's study up to date, unless its controller does, and says what shows it."""
    from lora_bench.search.optuna_view import view_name
    from lora_bench.search.rebuild import refresh_optuna
    from lora_bench.search.recorded import recorded_question

    holder = directory.holder()
    question = recorded_question(directory) if holder else refresh_optuna(directory)
    url = question.study.storage
    storage = shown(url) if url is not None else str(directory.journal)
    if arguments.json:
        _print_json({"storage": storage, "study": view_name(question), "is_running": holder is not None})
        return 0
    kept = "its controller brings it up to date every ten seconds" if holder else "up to date"
    print(f"{view_name(question)}: {kept}")
    print(f"optuna-dashboard {shlex.quote(storage)}")
    if importlib.util.find_spec("optuna_dashboard") is None:
        print("optuna-dashboard is not installed; pip install 'lora-bench[dashboard]'", file=sys.stderr)
    return 0


def retry_study(arguments: argparse.Namespace) -> int:
    """`lora-bench retry STUDY --status failed,oom`: moves those records aside and goes on with the study."""
    from lora_bench.console import build_console
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
            try:
                result = run.read_result()
            except RecordError as err:
                print(shown(str(err)), file=sys.stderr)
                continue
            if result is not None and result.status in statuses:
                run.archive_failure()
                num_moved += 1
    print(f"{num_moved} runs of {directory.path.name} to be tried again")
    if not num_moved:
        return 0
    return sweep(_command(directory, arguments), console=build_console())


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
    commands["study"].add_argument(
        "--optuna", action="store_true", help="bring its Optuna study up to date, and print the command that shows it"
    )
    commands["retry"].add_argument("--status", default="failed", help="statuses, with commas between (%(default)s)")


def _root(arguments: argparse.Namespace) -> Path:
    root = Path(arguments.root).absolute()
    if (problem := reading_problem(root)) is not None:
        raise UsageError(f"--root: {problem}; give the folder of the studies, paths.root of their commands")
    return root


def find_study(name: str, root: Path) -> StudyDir:
    """Return the study of this name.

    Raises:
        StudyError: If there is none, with the nearest name.
    """
    from lora_bench.search.studydir import find_study_dirs

    known = {directory.path.name: directory for directory in find_study_dirs(root)}
    if name not in known:
        names = ", ".join(known) or "none"
        raise StudyError(f"no study '{name}' in {root}{suggest(name, known)}; studies: {names}")
    return known[name]


def _find(arguments: argparse.Namespace) -> StudyDir:
    return find_study(arguments.study, _root(arguments))


def _command(directory: StudyDir, arguments: argparse.Namespace) -> list[str]:
    """The command that asked the study, wherever it is given from."""
    words = [word for word in directory.read_question()["command"] if not word.startswith("paths.root=")]
    name = [] if any(word.startswith("study.name=") for word in words) else [f"study.name={directory.path.name}"]
    return [*words, *name, f"paths.root={Path(arguments.root).absolute()}"]


def _print_json(data: object) -> None:
    from lora_bench.rundir import finite

    print(json.dumps(finite(data), indent=1))
