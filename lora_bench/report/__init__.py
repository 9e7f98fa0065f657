"""Tables from run directories, without torch: what was measured, how sure it is, and what may be compared."""

from __future__ import annotations

from lora_bench.report.compare import Comparison, build_comparison, comparison_json
from lora_bench.report.load import Record, load_records
from lora_bench.report.render import comparison_markdown, render_comparison

__all__ = [
    "Comparison",
    "Record",
    "build_comparison",
    "comparison_json",
    "comparison_markdown",
    "load_records",
    "render_comparison",
]
