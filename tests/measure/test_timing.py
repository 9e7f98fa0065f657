"""Oracle: medians and quantiles by hand."""

from __future__ import annotations

import pytest

from lora_bench.measure.timing import summarise_steps


def test_warm_up_is_left_out():
    times = summarise_steps([9.0, 9.0, 0.1, 0.2, 0.3], [10, 10, 10, 10, 10], num_warmup=2)
    assert times.median_ms == pytest.approx(200)
    assert times.p10_ms == pytest.approx(120)
    assert times.p90_ms == pytest.approx(280)
    assert times.num_timed == 3
    assert times.tokens_per_s == pytest.approx(50)


def test_a_short_run_keeps_its_last_step():
    assert summarise_steps([9.0, 0.5], [5, 5], num_warmup=3).median_ms == pytest.approx(500)


def test_the_first_step_alone_is_none_not_zero():
    times = summarise_steps([1.0], [5], num_warmup=0)
    assert (times.median_ms, times.tokens_per_s, times.num_timed) == (None, None, 0)
