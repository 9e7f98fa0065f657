"""lora_bench: what LoRA costs and what it gives, against full fine-tuning, on this model, task and machine."""

import os

# The libraries below us report usage to their makers unless they are told not to; somebody who wants that says so.
for _name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY"):
    os.environ.setdefault(_name, "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Tokenizers warn after every fork of a process that has used them.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

__version__ = "0.1.0"
