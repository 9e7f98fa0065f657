"""What can be done with trained runs: merged, composed, exchanged, timed, exported and imported.

What stands here needs no torch; the modules that load a network do and are imported by name.
"""

from lora_bench.artifacts.lookup import find_run
from lora_bench.artifacts.trained import TrainedRun, check_same_base, open_run

__all__ = ["TrainedRun", "check_same_base", "find_run", "open_run"]
