"""`python tell_gpus.py DIR`: two runs at a time, each of which writes down which GPUs it would see."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from lora_bench.execution.base import RunRequest
from lora_bench.execution.gpus import VISIBLE, take_gpus
from lora_bench.execution.local import LocalExecutor


def tell(request: RunRequest) -> None:
    """The body of a run's process."""
    take_gpus(request.slot)
    (request.run_dir / f"{request.slot}.txt").write_text(os.environ[VISIBLE])


def main() -> None:
    """Ends when both have."""
    executor = LocalExecutor(tell, preload="lora_bench.execution.gpus")
    handles = [executor.submit(RunRequest(Path(sys.argv[1]), 1, slot=slot)) for slot in (0, 1)]
    while any(executor.poll(handle) is None for handle in handles):
        time.sleep(0.05)


if __name__ == "__main__":
    main()
