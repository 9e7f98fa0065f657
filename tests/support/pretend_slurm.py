"""`python pretend_slurm.py WORDS`: a study with `executor=slurm` whose runs pretend to train."""

from __future__ import annotations

import sys

from rich.console import Console

from lora_bench.config.schema import SlurmExecutorConfig
from lora_bench.errors import ConfigError, LoraBenchError
from lora_bench.execution.slurm import SlurmExecutor
from lora_bench.preflight import root_folder
from lora_bench.search.question import build_question
from lora_bench.search.sweep import sweep


def main() -> int:
    """The exit code of `run.py -m`."""
    try:
        config = build_question(sys.argv[1:]).config
        assert isinstance(config.executor, SlurmExecutorConfig)
        executor = SlurmExecutor(config.executor, root_folder(config) / "slurm", is_pretended=True)
        return sweep(sys.argv[1:], console=Console(width=200), executor=executor)
    except LoraBenchError as err:
        print(err, file=sys.stderr)
        return 2 if isinstance(err, ConfigError) else 1


if __name__ == "__main__":
    sys.exit(main())
