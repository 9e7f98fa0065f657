"""`run.py -m`: from the words of the command line to what the study has found."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from lora_bench.config.executor import SlurmExecutorConfig
from lora_bench.config.processes import num_nodes
from lora_bench.errors import ConfigError, Fault
from lora_bench.execution import Executor, build_executor, check_executor
from lora_bench.execution.local import stop_on_signals
from lora_bench.preflight import check_run, root_folder
from lora_bench.redact import redact_words
from lora_bench.report import render_comparison
from lora_bench.report.ranking_table import render_ranking
from lora_bench.search.asking import SearchSupply
from lora_bench.search.clock import Clock
from lora_bench.search.compose import compose_run
from lora_bench.search.controller import Controller
from lora_bench.search.edges import rate_edges
from lora_bench.search.grid import GridSupply, expand_grid
from lora_bench.search.hints import root_option, study_command
from lora_bench.search.influence import influence
from lora_bench.search.mirror import MirroringTracker
from lora_bench.search.optuna_view import OptunaView
from lora_bench.search.overview import read_overview
from lora_bench.search.question import BASELINE, Question, build_question
from lora_bench.search.ranking import rank_methods
from lora_bench.search.storage import open_storage, storage_faults
from lora_bench.search.studydir import StudyDir, settle_question, study_dir
from lora_bench.search.summary import render_summary
from lora_bench.search.trials import Supply, Trial
from lora_bench.search.view import StudyView
from lora_bench.tracking import load_tracker

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
POLL_S = 0.2
MOST_SHOWN = 30
"""Runs up to which the table of all runs is shown at the end."""


def sweep(overrides: Sequence[str], *, console: Console, executor: Executor | None = None) -> int:
    """Carries out the study that these overrides ask for; returns the exit code.

    0 when every run has a result (diverged, out-of-memory and pruned runs have one), 1 when one failed, 130 when it
    was asked to stop. The runs are started by `executor`; without one, on this machine.

    Raises:
        ConfigError: With every fault found before anything was started.
        StudyError: If another controller carries the study out, or its name asks something else.
    """
    question = build_question(overrides)
    root = root_folder(question.config)
    grid = expand_grid(question, root) if question.is_grid else []
    if not question.is_grid:
        _check_corners(question)
    elif faults := storage_faults(question.study.storage):
        raise ConfigError(faults)
    directory = study_dir(root, question.name)
    check_executor(question.config.executor, root, num_nodes=num_nodes(question.config.processes))
    if executor is None and getattr(question.config.executor, "submit_controller", False):
        return _submit_controller(question, overrides, root, console)
    with directory.hold():
        settle_question(directory, question, overrides)
        _introduce(question, grid, console)
        return _carry_out(
            question, directory, grid, executor or build_executor(question.config.executor, root), console
        )


def _carry_out(
    question: Question, directory: StudyDir, grid: Sequence[Trial], executor: Executor, console: Console
) -> int:
    root, clock = root_folder(question.config), Clock(question.study, directory)
    storage = functools.cache(lambda: open_storage(question.study.storage, directory.journal))
    supply: Supply
    if question.is_grid:
        supply = GridSupply(grid)
        directory.record_trials([trial.as_line() for trial in grid])
    else:
        supply = search = _search(question, directory, root, clock, storage())
        for note in search.notes:
            console.print(note, highlight=False)
    tracker = load_tracker(question.config.tracking, root=root)
    if (problem := tracker.find_problem()) is not None:
        told = f"tracking: {problem}; training starts all the same, and `lora-bench sync` catches up"
        console.print(told, highlight=False, soft_wrap=True)
    controller = Controller(
        question,
        directory,
        supply=supply,
        executor=executor,
        tracker=MirroringTracker(tracker, OptunaView(question, directory, storage)),
        view=StudyView(console),
        clock=clock,
        poll_s=POLL_S,
    )
    with stop_on_signals(dies_on_second=False) as stop:
        controller.run(stop)
    _conclude(question, directory, supply, console)
    states = {member.state for trial in supply.trials() for member in trial.members}
    if stop.is_requested() or "interrupted" in states:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if "failed" in states else 0


def _submit_controller(question: Question, overrides: Sequence[str], root: Path, console: Console) -> int:
    """Has the cluster carry this command out; the job needs no GPU, and is queued again when its time is over."""
    from lora_bench.execution.slurm import submit_job

    config = question.config.executor
    assert isinstance(config, SlurmExecutorConfig), "no other executor has such a key"
    if held := [word.partition("=")[0] for word in overrides if redact_words([word]) != [word]]:
        problem = "holds a password, which would be written into the job; give it in PGPASSWORD, ~/.pgpass or"
        raise ConfigError([Fault(key, f"{problem} MLFLOW_TRACKING_PASSWORD") for key in held])
    words = [word for word in overrides if not word.startswith("executor.submit_controller=")]
    command = [sys.executable, str(Path(sys.argv[0]).absolute()), "-m", *words]
    own = replace(config, cpus_per_task=1, gpus_per_node=0)
    job_id = submit_job(own, root / "slurm", name=f"{question.name}:controller", task={"command": command})
    console.print(f"study {question.name}: its controller is job {job_id}", highlight=False)
    console.print(f"Look at it: {study_command(question.name, root)}", highlight=False, soft_wrap=True)
    return 0


def _search(question: Question, directory: StudyDir, root: Path, clock: Clock, storage: BaseStorage) -> SearchSupply:
    from lora_bench.search.study import OptunaArm

    arms = {arm.name: OptunaArm(question, arm, storage, directory) for arm in question.arms}
    return SearchSupply(question, directory, root, optuna_arms=arms, is_spent=clock.is_spent)


def _check_corners(question: Question) -> None:
    """Finds what is wrong with a search before it starts: storage, and each value and each end once."""
    faults: dict[Fault, None] = dict.fromkeys(storage_faults(question.study.storage))
    for arm in question.arms:
        for point in arm.space.corners():
            try:
                check_run(compose_run(arm.words_at(point)))
            except ConfigError as err:
                faults |= dict.fromkeys(err.faults)
    if faults:
        raise ConfigError(list(faults))


def _introduce(question: Question, grid: Sequence[Trial], console: Console) -> None:
    console.print(f"study {question.name}", style="bold", highlight=False)
    if question.text:
        console.print(question.text, highlight=False)
    if not question.is_grid:
        objectives = ", ".join(f"{objective.direction} {objective.metric}" for objective in question.objectives)
        per_arm = f"{question.study.n_trials} trials" + (f" of {len(question.seeds)} seeds" * (len(question.seeds) > 1))
        console.print(f"{question.sampler}: {objectives}; {per_arm} for each method", highlight=False)
    baseline = next((arm for arm in question.arms if arm.name == BASELINE), None)
    if baseline is None:
        return
    trials = [trial for trial in grid if trial.arm == BASELINE]
    configs = [member.load_config() for trial in trials for member in trial.members]
    rates = ", ".join(dict.fromkeys(f"{config.training.lr:g}" for config in configs))
    name = {"full": "full fine-tuning"}.get(question.study.baseline or "", question.study.baseline)
    searched = ", ".join(f"{one.key} {one.text}" for one in baseline.space.dimensions)
    size = f"{len(configs)} of the runs, lr {rates}" if trials else f"searched over {searched}"
    console.print(f"baseline: {name}, {size} (study.baseline=null trains none)", highlight=False)


def _conclude(question: Question, directory: StudyDir, supply: Supply, console: Console) -> None:
    runs = [member.run_dir for trial in supply.trials() for member in trial.members]
    finished = [run for run in runs if run.result.exists()]
    if not finished:
        return
    if len(finished) <= MOST_SHOWN:
        edges = rate_edges([directory])
        render_comparison(finished, console=console, margin=question.study.margin, edges=edges)
    overview = read_overview(directory)
    render_summary(overview, console=console, found=influence(question, supply.trials()))
    if len(finished) > MOST_SHOWN:
        for ranking in rank_methods(overview):
            render_ranking(ranking, console=console)
    console.print(
        f"\nLook closer: {study_command(question.name, root_folder(question.config))} ; "
        f"lora-bench dashboard{root_option(root_folder(question.config))}",
        highlight=False,
        soft_wrap=True,
    )
