"""What the commands show: a few lines and Markdown tables, the same in a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lora_bench.report.format import MINUS, bytes_text, ms_text

if TYPE_CHECKING:
    from lora_bench.artifacts.latency import Cell, LatencyReport
    from lora_bench.artifacts.switch import SwitchReport
    from lora_bench.measure.latency import Spread

MAX_ANSWER = 60
"""Characters of an answer that a table shows."""


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell."""
    lines = [list(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def latency_table(report: LatencyReport) -> str:
    """One row per network, one column per shape, as in Table 1 of the LoRA paper."""
    shapes = list(dict.fromkeys((cell.batch, cell.length) for cell in report.cells))
    cells = {(cell.network, cell.batch, cell.length): cell for cell in report.cells}
    reference = report.networks[0].name
    rows = [
        [network.name, *(_cell_text(cells[(network.name, *shape)], reference) for shape in shapes)]
        for network in report.networks
    ]
    return markdown_table(["network", *(f"batch {batch}, {length} tokens" for batch, length in shapes)], rows)


def switch_table(report: SwitchReport, prompts: Sequence[str]) -> str:
    """One row per adapter: size, times, answers."""
    heads = ["adapter", "on disk", "loaded once in", "switched to in", *(_shorten(repr(prompt)) for prompt in prompts)]
    rows = [
        [
            adapter.name,
            bytes_text(adapter.num_bytes),
            ms_text(adapter.load_ms),
            _spread_text(adapter.switch),
            *(_shorten(" ".join(answer.split())) for answer in adapter.answers),
        ]
        for adapter in report.adapters
    ]
    if report.base_answers:
        answers = (_shorten(" ".join(answer.split())) for answer in report.base_answers)
        rows.insert(
            0, ["none: the base alone", bytes_text(report.base_bytes), ms_text(report.base_load_ms), "–", *answers]
        )
    return markdown_table(heads, rows)


def _cell_text(cell: Cell, reference: str) -> str:
    time = _spread_text(cell.time)
    if cell.network == reference:
        return time
    value, low, high = (_percent(ratio) for ratio in (cell.ratio.value, cell.ratio.low, cell.ratio.high))
    verdict = ", inside the noise" if cell.is_inside_noise else ""
    return f"{time}: {value} % [{low}, {high}]{verdict}"


def _spread_text(spread: Spread) -> str:
    """`12.3 ms [12.0, 12.9]`: median, 10th and 90th percentile."""
    low, high = (ms_text(value).removesuffix(" ms") for value in (spread.p10_ms, spread.p90_ms))
    return f"{ms_text(spread.median_ms)} [{low}, {high}]"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f}".replace("-", MINUS)


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_ANSWER else f"{text[: MAX_ANSWER - 1]}…"
