"""lora_bench: what LoRA costs and what it gives, against full fine-tuning, on this model, task and machine."""

import logging
import os

# The libraries below us report usage to their makers unless they are told not to; somebody who wants that says so.
for _name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY"):
    os.environ.setdefault(_name, "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Tokenizers warn after every fork of a process that has used them.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Threads that wait for each other sleep instead of spinning: the same speed on idle cores, and on cores that others
# use as well a step that took 140 ms no longer takes 500. Read when torch is loaded, so it must be said before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# PEFT imports bitsandbytes where it is installed, which says on standard error that it could fetch a faster kernel.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

__version__ = "0.1.0"
