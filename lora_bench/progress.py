"""What a single run shows: a progress bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lora_bench.training.observer import NullObserver


class ProgressObserver(NullObserver):
    """Tells one run on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._num_steps = 0

    def on_start(self, *, num_steps: int, first_step: int) -> None:
        """Opens the bar, or says where training starts."""
        self._num_steps = num_steps
        if not self._console.is_terminal:
            return
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[news]}"), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._bar.start()
        self._bar.add_task("steps", total=num_steps, completed=first_step, news="")

    def on_log(self, step: int, metrics: dict[str, float]) -> None:
        """Loss and learning rate."""
        news = f"loss {metrics['train/loss']:.4f}  lr {metrics['train/lr']:.1e}"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, news=news)
        else:
            self._console.print(f"step {step}/{self._num_steps}  {news}", highlight=False)

    def on_eval(self, step: int, metrics: dict[str, float]) -> bool:
        """One line with every score."""
        scores = "  ".join(f"{name.removeprefix('eval/')} {value:.4f}" for name, value in metrics.items())
        self._console.print(f"step {step}/{self._num_steps}  validation: {scores}", highlight=False)
        return False

    def on_note(self, text: str) -> None:
        """As it is."""
        self._console.print(f"note: {text}", highlight=False)

    def on_end(self, status: str) -> None:
        """Takes the bar away."""
        self.close()

    def close(self) -> None:
        """Takes the bar away, also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
