"""Oracle: what a reader would write by hand."""

from __future__ import annotations

import pytest

from lora_bench.report.format import bytes_text, count_text, difference_text, ms_text, ratio_text, score_text
from lora_bench.report.statistics import Estimate


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (700, "700 B"), (115_912, "113 KiB"), (90_859_720, "86.7 MiB"), (2**31, "2.00 GiB"), (None, "–")],
)
def test_bytes_have_three_digits_and_a_binary_unit(size, text):
    assert bytes_text(size) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(28_803, "28,803"), (1_770_627, "1.77 M"), (22_714_755, "22.7 M"), (6.74e9, "6.74 G"), (None, "–")],
)
def test_counts_are_whole_up_to_a_million(count, text):
    assert count_text(count) == text


@pytest.mark.parametrize(("ms", "text"), [(4.2, "4.20 ms"), (150, "150 ms"), (2345, "2,345 ms"), (12_345, "12.3 s")])
def test_milliseconds(ms, text):
    assert ms_text(ms) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(1, "1×"), (0.757, "0.76×"), (0.0013, "0.0013×"), (3e-5, "3.0e-05×"), (12.34, "12.3×"), (None, "–")],
)
def test_ratios_keep_two_or_three_digits(ratio, text):
    assert ratio_text(ratio) == text


def test_signs_are_shown_where_they_matter():
    assert score_text(-1.5) == "−1.500"
    assert difference_text(Estimate(0.0123, -0.004, 0.0)) == "+0.012 [−0.004, +0.000]"
