"""Starting the processes of a run and saying how they ended."""

from __future__ import annotations

from pathlib import Path

from lora_bench.config.executor import ExecutorConfig, RayExecutorConfig, SlurmExecutorConfig
from lora_bench.execution.base import Executor, Outcome, RunRequest
from lora_bench.execution.local import LocalExecutor

__all__ = ["Executor", "LocalExecutor", "Outcome", "RunRequest", "build_executor", "check_executor"]


def build_executor(config: ExecutorConfig, root: Path) -> Executor:
    """The executor that a configuration names; starts nothing."""
    if isinstance(config, SlurmExecutorConfig):
        from lora_bench.execution.slurm import SlurmExecutor

        return SlurmExecutor(config, root / "slurm")
    if isinstance(config, RayExecutorConfig):
        from lora_bench.execution.ray import RayExecutor

        return RayExecutor(config)
    return LocalExecutor()


def check_executor(config: ExecutorConfig, root: Path, *, num_nodes: int = 1) -> None:
    """Finds out whether runs can be started as asked.

    Raises:
        ConfigError: If they never could.
    """
    if isinstance(config, SlurmExecutorConfig):
        from lora_bench.execution.slurm import check_request as check_slurm

        check_slurm(config, root / "slurm", num_nodes=num_nodes)
    elif isinstance(config, RayExecutorConfig):
        from lora_bench.execution.raycluster import check_request as check_ray

        check_ray(config)
