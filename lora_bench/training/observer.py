"""How training tells what happens. It knows neither Optuna nor MLflow nor a terminal."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Called by the loop on the first process only, in step order.

    After a resume the steps since the last checkpoint are told again; `step` says so.
    """

    def on_start(self, *, num_steps: int, first_step: int) -> None:
        """Once, before the first step; `first_step` is above 0 after a resume."""

    def on_log(self, step: int, metrics: dict[str, float]) -> None:
        """Every `training.log_every` steps and at the last; names as in metrics.jsonl."""

    def on_eval(self, step: int, metrics: dict[str, float]) -> bool:
        """After each evaluation; True asks the loop to stop here (pruning, patience)."""

    def on_checkpoint(self, step: int) -> None:
        """After a checkpoint is on disk."""

    def on_note(self, text: str) -> None:
        """Something that a reader of the result must know."""

    def on_end(self, status: str) -> None:
        """Once, when the run's result is on disk."""


class NullObserver:
    """Hears everything and does nothing; also a base for observers that care for one event."""

    def on_start(self, *, num_steps: int, first_step: int) -> None:
        """Ignored."""

    def on_log(self, step: int, metrics: dict[str, float]) -> None:
        """Ignored."""

    def on_eval(self, step: int, metrics: dict[str, float]) -> bool:
        """Never stops."""
        return False

    def on_checkpoint(self, step: int) -> None:
        """Ignored."""

    def on_note(self, text: str) -> None:
        """Ignored."""

    def on_end(self, status: str) -> None:
        """Ignored."""


class Observers:
    """Passes every event on to several observers; stops if any of them asks."""

    def __init__(self, *members: Observer) -> None:
        self._members = members

    def on_start(self, *, num_steps: int, first_step: int) -> None:
        """To all."""
        for member in self._members:
            member.on_start(num_steps=num_steps, first_step=first_step)

    def on_log(self, step: int, metrics: dict[str, float]) -> None:
        """To all."""
        for member in self._members:
            member.on_log(step, metrics)

    def on_eval(self, step: int, metrics: dict[str, float]) -> bool:
        """To all, also after one has asked to stop."""
        return any([member.on_eval(step, metrics) for member in self._members])

    def on_checkpoint(self, step: int) -> None:
        """To all."""
        for member in self._members:
            member.on_checkpoint(step)

    def on_note(self, text: str) -> None:
        """To all."""
        for member in self._members:
            member.on_note(text)

    def on_end(self, status: str) -> None:
        """To all."""
        for member in self._members:
            member.on_end(status)
