"""A run within this machine: in this process, or in the processes that its configuration asks for."""

from __future__ import annotations

from collections.abc import Callable

from lora_bench.config.processes import GroupConfig
from lora_bench.config.schema import RunConfig
from lora_bench.execution.gpus import take_gpus
from lora_bench.execution.group import Node, Part, run_group
from lora_bench.execution.local import limit_memory
from lora_bench.rundir import RunDir
from lora_bench.training.observer import Observer


def start_run(
    config: RunConfig,
    run_dir: RunDir,
    *,
    num_threads: int,
    stop_requested: Callable[[], bool],
    memory_share: float = 1.0,
    slot: int = 0,
    node: Node | None = None,
    observer: Observer | None = None,
    command: str = "",
) -> None:
    """Trains until the run has its record.

    Args:
        config: Resolved.
        run_dir: Where the record goes; not held yet.
        num_threads: CPU threads for the whole run.
        stop_requested: Asked between steps; True has the run checkpoint and stop.
        memory_share: Part of this machine's free memory for the whole run.
        slot: Which of the places for runs it takes; each has its own GPUs.
        node: Which of several machines this is; each of them makes this call.
        observer: Hears of the run beside its directory.
        command: What the user typed, for the record.

    Raises:
        As `run_benchmark` and `run_group`.
    """
    if isinstance(group := config.processes, GroupConfig):
        num_here = group.count // group.nodes
        take_gpus(slot, num_here)
        part = Part(
            config,
            run_dir,
            num_threads=max(1, num_threads // num_here),
            memory_share=memory_share / num_here,
            command=command,
            observer=observer,
        )
        run_group(part, stop_requested=stop_requested, node=node)
        return
    import torch

    from lora_bench.benchmark import run_benchmark

    take_gpus(slot)
    torch.set_num_threads(num_threads)
    limit_memory(memory_share)
    run_benchmark(config, run_dir, observer=observer, command=command, stop_requested=stop_requested)
