"""`python pretend_study.py WORDS`: a study whose runs pretend to train, some of them badly, to be killed."""

from __future__ import annotations

import os
import sys
import time

# Each run's process imports this module: what the controller alone needs is imported where it is used.
from lora_bench.errors import ConfigError, LoraBenchError
from lora_bench.execution.base import Executor, RunRequest
from lora_bench.execution.local import LocalExecutor, enter_run
from lora_bench.execution.pretend import pretend, write_pretended


def faulty(request: RunRequest) -> None:
    """Goes wrong in the way that the seed says; any other seed is well."""
    directory = enter_run(request)
    seed = int(directory.read_config()["seed"])
    if seed == 101:
        write_pretended(directory, "diverged", quality=0.0)
    elif seed == 102:
        raise ValueError("a fault of the program")
    elif seed == 103:
        write_pretended(directory, "oom", quality=0.0)
    elif seed == 104:
        time.sleep(3600)
    elif seed == 105:
        sys.exit(0)
    elif seed == 106:
        os.kill(os.getpid(), 9)
    else:
        pretend(request)


def build_pretender(words: list[str]) -> Executor:
    """What starts the runs: on this machine, or on the cluster that the words name."""
    if not any(word.startswith("executor=") for word in words):
        return LocalExecutor(faulty, preload="lora_bench.execution.pretend")
    from lora_bench.config.executor import RayExecutorConfig, SlurmExecutorConfig
    from lora_bench.execution.ray import RayExecutor
    from lora_bench.execution.slurm import SlurmExecutor
    from lora_bench.preflight import root_folder
    from lora_bench.search.question import build_question

    config = build_question(words).config
    if isinstance(config.executor, SlurmExecutorConfig):
        return SlurmExecutor(config.executor, root_folder(config) / "slurm", is_pretended=True)
    assert isinstance(config.executor, RayExecutorConfig), "the words say so"
    return RayExecutor(config.executor, is_pretended=True)


def main() -> int:
    """The exit code of `run.py -m`."""
    from rich.console import Console

    from lora_bench.search.sweep import sweep

    words = sys.argv[1:]
    try:
        return sweep(words, console=Console(width=200), executor=build_pretender(words))
    except LoraBenchError as err:
        print(err, file=sys.stderr)
        return 2 if isinstance(err, ConfigError) else 1


if __name__ == "__main__":
    sys.exit(main())
