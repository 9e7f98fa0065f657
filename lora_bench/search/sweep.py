"""`run.py -m`: from the words of the command line to the table at the end."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from lora_bench.execution import LocalExecutor
from lora_bench.execution.local import stop_on_signals
from lora_bench.naming import run_dir_for
from lora_bench.preflight import root_folder
from lora_bench.report import render_comparison
from lora_bench.search.controller import GridController, Member, refuse_held
from lora_bench.search.grid import GridPoint, expand_grid, study_name
from lora_bench.search.view import GridView
from lora_bench.tracking import load_tracker

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def sweep(overrides: Sequence[str], *, console: Console) -> int:
    """Carries out the grid that these overrides span, and its baseline; returns the exit code.

    0 when every run has a result (diverged and out-of-memory runs have one), 1 when one failed, 130 when it was
    asked to stop.

    Raises:
        ConfigError: With every fault of every point; nothing has been started then.
    """
    points = expand_grid(overrides)
    first = points[0].config
    root = root_folder(first)
    members = [Member(point, run_dir_for(point.config, root)) for point in points]
    refuse_held(members)
    study = study_name(points, overrides)
    _introduce(points, study, console)
    controller = GridController(
        members,
        executor=LocalExecutor(),
        tracker=load_tracker(first.tracking, root=root),
        view=GridView(console),
        study=study,
    )
    with stop_on_signals() as stop:
        controller.run(stop.is_requested)
    finished = [member.run_dir for member in members if member.run_dir.result.exists()]
    if finished:
        render_comparison(finished, console=console)
        console.print(f"\nLook closer: lora-bench dashboard --root {root}", highlight=False, soft_wrap=True)
    states = {member.state for member in members}
    if "interrupted" in states or "waiting" in states:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if "failed" in states else 0


def _introduce(points: Sequence[GridPoint], study: str, console: Console) -> None:
    baselines = [point for point in points if point.is_baseline]
    console.print(f"study {study}", style="bold", highlight=False)
    if baselines:
        rates = ", ".join(dict.fromkeys(f"{point.config.training.lr:g}" for point in baselines))
        console.print(
            f"baseline: {baselines[0].config.method.name} fine-tuning, {len(baselines)} of the runs, lr {rates} "
            "(study.baseline=null trains none)",
            highlight=False,
        )
