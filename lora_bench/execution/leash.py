"""Imported by the server that runs are forked from, and by nothing else: the server then dies with its controller.

Without it the server would outlive a controller that was killed: every forked run holds the pipe by which the server
notices that its clients are gone.
"""

from __future__ import annotations

from lora_bench.execution.local import die_with_parent

die_with_parent()
