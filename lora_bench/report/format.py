"""Numbers as a reader wants them: three digits, a unit, and ratios that show what they are."""

from __future__ import annotations

import math

from lora_bench.report.statistics import Estimate

MINUS = "−"


def bytes_text(size: float | None) -> str:
    """`259 MiB`; binary units."""
    if size is None:
        return "–"
    for unit in ("B", "KiB", "MiB"):
        if size < 1000:
            return f"{_three_digits(size)} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1024
    return f"{_three_digits(size)} GiB"


def count_text(count: float | None) -> str:
    """`28,803`, and from a million on `22.7 M`."""
    if count is None:
        return "–"
    for limit, unit in ((1e9, "G"), (1e6, "M")):
        if count >= limit:
            return f"{_three_digits(count / limit)} {unit}"
    return f"{count:,.0f}"


def ms_text(milliseconds: float | None) -> str:
    """`150 ms`, and from ten seconds on `12.3 s`."""
    if milliseconds is None:
        return "–"
    if milliseconds >= 10_000:
        return f"{_three_digits(milliseconds / 1000)} s"
    return f"{_three_digits(milliseconds)} ms" if milliseconds < 1000 else f"{milliseconds:,.0f} ms"


def ratio_text(ratio: float | None) -> str:
    """`0.76×`; the baseline itself is `1×`."""
    if ratio is None:
        return "–"
    if ratio == 1:
        return "1×"
    return f"{ratio:.2g}×" if 1e-4 <= ratio < 0.1 else f"{_three_digits(ratio)}×" if ratio >= 0.1 else f"{ratio:.1e}×"


def score_text(value: float | None) -> str:
    """Three decimals: finer than any interval over a few thousand items."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.3f}".replace("-", MINUS)


def interval_text(low: float | None, high: float | None) -> str:
    """`[0.593, 0.721]`."""
    return f"[{score_text(low)}, {score_text(high)}]"


def difference_text(difference: Estimate) -> str:
    """`+0.012 [−0.004, +0.028]`, with signs."""
    return f"{_signed(difference.value)} [{_signed(difference.low)}, {_signed(difference.high)}]"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", MINUS)


def _three_digits(value: float) -> str:
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{decimals}f}"
