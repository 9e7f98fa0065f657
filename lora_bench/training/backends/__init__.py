"""How the processes of a run share its work, by the name in `conf/processes/`."""

from __future__ import annotations

from lora_bench.training.backends.single import SingleBackend

__all__ = ["SingleBackend"]
