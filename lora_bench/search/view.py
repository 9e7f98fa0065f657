"""What a sweep shows while it runs: a live view in a terminal, a line per event elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lora_bench.report.labels import ALWAYS, label_text
from lora_bench.search.trials import ENDED, Member
from lora_bench.tracking import SyncReport

if TYPE_CHECKING:
    from lora_bench.search.controller import Board

STATES = ("finished", "running", "waiting", "diverged", "oom", "pruned", "failed", "interrupted", "spared")
"""The order in which states are counted out."""
COLOURS = {"finished": "green", "running": "cyan", "diverged": "yellow", "oom": "yellow", "failed": "red"}


class StudyView:
    """Shows a study on one console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._start_s = time.monotonic()
        self._last_problem = ""
        self._storage_problem: str | None = None

    def start(self, board: Board) -> None:
        """Says what is asked for and what is there already."""
        left = board.num_runs - board.num_recorded
        recorded = f", {board.num_recorded} recorded already" if board.num_recorded else ""
        self._console.print(f"{board.num_runs} runs{recorded}, {left} to do")
        if self._console.is_terminal and left:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()

    def update(self, board: Board) -> None:
        """Redraws the live view, if there is one."""
        if self._live is not None:
            self._live.update(self._render(board))

    def event(self, member: Member, text: str) -> None:
        """One line about one run."""
        result = member.read_result() if member.state in ENDED else None
        score = result.score(result.headline) if result is not None else None
        quality = f", {score.name} {score.value:.3f} {score.interval_text()}" if score else ""
        name = f"{run_label(member)} ({member.run_dir.path.name})"
        self._console.print(f"{name}: {text}{quality}", highlight=False, soft_wrap=True)

    def tracked(self, report: SyncReport) -> None:
        """Says once what keeps the tracker behind."""
        problem = "; ".join(report.problems)
        if problem and problem != self._last_problem:
            self._console.print(f"tracking: {problem} (training goes on; the next sync catches up)", highlight=False)
        self._last_problem = problem

    def storage(self, problem: str | None) -> None:
        """Says once that the study's storage does not answer, and once that it answers again."""
        if problem != self._storage_problem:
            told = f"{problem}; runs go on, and it is asked again" if problem else "the storage answers again"
            self._console.print(told, highlight=False, soft_wrap=True)
        self._storage_problem = problem

    def stop(self, board: Board) -> None:
        """Takes the live view away and counts the states."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        words = [f"{board.ended[state]} {state}" for state in STATES if board.ended[state]]
        if board.num_recorded:
            words.append(f"{board.num_recorded} recorded before")
        self._console.print(f"{', '.join(words)} in {_clock(time.monotonic() - self._start_s)}", highlight=False)

    def _render(self, board: Board) -> RenderableType:
        counts = board.ended + Counter(running=len(board.running))
        counts["waiting"] = board.num_runs - board.num_recorded - sum(counts.values())
        head = Text()
        for state in STATES:
            if counts[state] > 0:
                head.append(f"{counts[state]} {state}  ", style=COLOURS.get(state, ""))
        head.append(self._time_left(board), style="dim")
        rows = Table.grid(padding=(0, 2))
        for member in board.running:
            rows.add_row(*_running_row(member))
        return Group(head, rows)

    def _time_left(self, board: Board) -> str:
        """From the runs that this command has done; runs under way count by their steps."""
        done = sum(board.ended.values())
        done_part = done + sum(map(_share_done, board.running))
        left = board.num_runs - board.num_recorded - done_part
        elapsed_s = time.monotonic() - self._start_s
        if done_part < 0.2:
            return f"{_clock(elapsed_s)} elapsed"
        left_s = elapsed_s / done_part * left
        return f"{_clock(elapsed_s)} elapsed" + (f", about {_clock(left_s)} left" if left_s >= 1 else "")


def run_label(member: Member) -> str:
    """Return a run in a few words: method, rank, rate, seed, and what else its study varies."""
    config = member.load_config()
    point = {key.lstrip("+"): value for key, value in member.trial.point.items()} if member.trial is not None else {}
    extra = {key: value for key, value in point.items() if key not in ALWAYS and key != "method"}
    r = config.lora.r if config.lora is not None else None
    return label_text(config.method.name, r=r, lr=config.training.lr, extra=extra, seed=config.seed)


def _running_row(member: Member) -> list[RenderableType]:
    status = member.run_dir.read_status()
    step, steps = int(status.get("step", 0)), int(status.get("steps", 0) or 1)
    loss = status.get("metrics", {}).get("train/loss")
    return [
        run_label(member),
        ProgressBar(total=steps, completed=step, width=24),
        f"step {step}/{steps}" if status.get("steps") else "loading",
        f"loss {loss:.3f}" if loss is not None else "",
    ]


def _share_done(member: Member) -> float:
    status = member.run_dir.read_status()
    return float(status.get("step", 0)) / float(status.get("steps", 0) or 1)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
