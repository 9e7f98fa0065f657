"""`run.py` without -m: one run in this process, told on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig
from rich.console import Console

from lora_bench.config.overrides import set_values
from lora_bench.config.resolve import resolve
from lora_bench.config.schema import RunConfig
from lora_bench.console import build_console
from lora_bench.errors import ConfigError, Fault, NewerRecordError, RecordError, RunInterrupted
from lora_bench.models.budget import settle_rank
from lora_bench.naming import run_dir_for
from lora_bench.preflight import check_built, root_folder
from lora_bench.report import render_comparison
from lora_bench.rundir import RunDir
from lora_bench.search.hints import root_option
from lora_bench.tracking import load_tracker

EXIT_INTERRUPTED = 130


def run_single(composed: DictConfig, words: Sequence[str] = ()) -> int:
    """Trains once and shows the result, or shows what is recorded already; returns the exit code.

    Args:
        composed: By Hydra.
        words: The overrides that it was composed from.

    Raises:
        ConfigError: With every fault found before a weight was loaded.
    """
    console = build_console()
    config = check_built(lambda: settle_rank(resolve(composed)), words=set_values(words))
    if config.executor.name != "local":
        problem = f"{config.executor.name}, which carries out studies; add -m, or leave it out to run here"
        raise ConfigError([Fault("executor", problem)])
    run_dir = run_dir_for(config, root_folder(config))
    console.print(f"run {run_dir.path}", highlight=False, soft_wrap=True)
    tracker = load_tracker(config.tracking, root=root_folder(config))
    if (away := tracker.find_problem()) is not None:
        console.print(
            f"tracking: {away}; the run is kept in its folder, and `lora-bench sync` catches up",
            highlight=False,
            soft_wrap=True,
        )
    if _is_recorded(run_dir, console):
        again = (config.again or 1) + 1
        console.print(f"recorded already; `again={again}` trains it once more beside this", highlight=False)
    else:
        code = _train(config, run_dir, console)
        if code:
            return code
    render_comparison([run_dir], console=console)
    report = tracker.sync([run_dir], finished=True)
    for problem in report.problems:
        sync = f"lora-bench sync{root_option(root_folder(config))}"
        console.print(f"tracking: {problem}; `{sync}` catches up", highlight=False)
    return 0


def _is_recorded(run_dir: RunDir, console: Console) -> bool:
    """Whether it has a record that stands; a damaged one is told, and the run moves it aside."""
    try:
        recorded = run_dir.read_result()
    except NewerRecordError:
        raise
    except RecordError as err:
        console.print(str(err), highlight=False, soft_wrap=True, markup=False)
        return False
    return recorded is not None and recorded.status != "failed"


def _train(config: RunConfig, run_dir: RunDir, console: Console) -> int:
    from lora_bench.execution.local import stop_on_signals, threads_per_run
    from lora_bench.execution.start import start_run
    from lora_bench.progress import ProgressObserver

    observer = ProgressObserver(console)
    with stop_on_signals() as stop:
        try:
            start_run(
                config,
                run_dir,
                num_threads=threads_per_run(1, config.executor.threads_per_run),
                stop_requested=stop.is_requested,
                observer=observer,
            )
        except RunInterrupted as err:
            console.print(str(err), highlight=False)
            return EXIT_INTERRUPTED
        finally:
            observer.close()
    return 0
