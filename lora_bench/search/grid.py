"""A pure grid: every point of every arm, in a fixed order, without Optuna."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from lora_bench.config.resolve import config_digest
from lora_bench.errors import ConfigError, Fault
from lora_bench.naming import run_dir_for
from lora_bench.preflight import check_built
from lora_bench.search.compose import compose_run
from lora_bench.search.question import Question
from lora_bench.search.trials import Member, Trial


def expand_grid(question: Question, root: Path) -> list[Trial]:
    """All trials of a grid, the study's own before the baseline's; each configuration is in one of them.

    The last key varies fastest. Points that resolve to the same run (`method=full lora.r=1,4`) are one trial.

    Raises:
        ConfigError: With every fault of every point, each said once.
    """
    trials: list[Trial] = []
    faults: dict[Fault, None] = {}
    seen: set[str] = set()
    for arm in question.arms:
        number = 0
        for point in arm.space.points():
            try:
                words = arm.words_at(point)
                first = check_built(functools.partial(compose_run, words))
                if (digest := config_digest(first)) in seen:
                    continue
                configs = arm.configs_at(point, question.seeds)
            except ConfigError as err:
                faults |= dict.fromkeys(err.faults)
                continue
            seen.add(digest)
            members = [Member(run_dir_for(config, root), config) for config in configs]
            trials.append(Trial(arm.name, number, point, words, members))
            number += 1
    if faults:
        raise ConfigError(list(faults))
    return trials


class GridSupply:
    """Hands the trials of a grid out in their order."""

    spares_seeds = False
    problem: str | None = None

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._all = list(trials)
        self._left = iter(self._all)
        self._num_recorded = 0
        for member in (member for trial in trials for member in trial.members):
            result = member.read_result()
            # What an earlier command left: a result is kept, a failure is tried again, the rest waits.
            if result is not None and result.status != "failed":
                member.state = result.status
                self._num_recorded += 1

    def trials(self) -> list[Trial]:
        """Every trial of the grid."""
        return self._all

    def next(self) -> Trial | None:
        """The next trial that has something to do."""
        return next((trial for trial in self._left if not trial.has_ended), None)

    def ended(self, trial: Trial) -> None:
        """Nothing: the run directories say it."""

    def num_runs(self) -> int:
        """Runs of the grid."""
        return sum(len(trial.members) for trial in self._all)

    def num_recorded(self) -> int:
        """Runs that had a result before this command."""
        return self._num_recorded
