"""The shim through which Hydra finds our sweeper; Hydra loads sweepers from the `hydra_plugins` namespace only."""

from __future__ import annotations

import sys
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LoraBenchSweeper(Sweeper):
    """Hands the words of `run.py -m` to `lora_bench.search`; runs are started by its executor, not by Hydra."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Nothing to keep: every point is composed again from its own words."""

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the sweep and ends the program with its exit code."""
        from lora_bench.config.dirs import with_config_dirs
        from lora_bench.console import build_console
        from lora_bench.errors import ConfigError, LoraBenchError
        from lora_bench.redact import shown
        from lora_bench.search.sweep import sweep

        try:
            code = sweep(with_config_dirs(arguments), console=build_console())
        except LoraBenchError as err:
            print(shown(str(err)), file=sys.stderr)
            code = 2 if isinstance(err, ConfigError) else 1
        sys.exit(code)


# Chosen by `conf/config.yaml`; what a sweep needs to know stands in the `study` group.
ConfigStore.instance().store(
    group="hydra/sweeper",
    name="lora_bench",
    node={"_target_": "hydra_plugins.lora_bench_sweeper.LoraBenchSweeper"},
    provider="lora_bench",
)
