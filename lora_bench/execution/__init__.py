"""Starting the processes of a run and saying how they ended."""

from __future__ import annotations

from lora_bench.execution.base import Executor, Outcome, RunRequest
from lora_bench.execution.local import LocalExecutor

__all__ = ["Executor", "LocalExecutor", "Outcome", "RunRequest"]
