"""`python pretend_study.py WORDS`: a study whose runs pretend to train, some of them badly, to be killed."""

from __future__ import annotations

import os
import sys
import time

from rich.console import Console

from lora_bench.errors import ConfigError, LoraBenchError
from lora_bench.execution.base import RunRequest
from lora_bench.execution.local import LocalExecutor, enter_run
from lora_bench.execution.pretend import pretend, write_pretended
from lora_bench.search.sweep import sweep


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


def main() -> int:
    """The exit code of `run.py -m`."""
    executor = LocalExecutor(faulty, preload="lora_bench.execution.pretend")
    try:
        return sweep(sys.argv[1:], console=Console(width=200), executor=executor)
    except LoraBenchError as err:
        print(err, file=sys.stderr)
        return 2 if isinstance(err, ConfigError) else 1


if __name__ == "__main__":
    sys.exit(main())
