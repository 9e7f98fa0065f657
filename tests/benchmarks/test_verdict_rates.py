"""Oracles: the constants that the simulation is said to have, and counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
import verdict_rates
from verdict_rates import Condition, Rate, count, draw, markdown_rows, shift_of, true_gap


def test_studies_have_the_accuracy_and_the_spread_that_are_recorded():
    """300 runs of 400 items: standard errors 0.0012 of the accuracy, and 4 % of the spread over seeds."""
    study = draw(Condition(300, 1.0, 400), 1, np.random.default_rng(1))
    scores = study["accuracy"][0].mean(axis=1)
    own = study["accuracy"][0].var(axis=1).mean()
    assert study["accuracy"].mean() == pytest.approx(0.775, abs=0.05)
    assert 0.009 < scores.std(ddof=1) < 0.022  # the seeds' 0.0094, and what 400 items add to it
    assert own == pytest.approx(0.775 * 0.225, rel=0.15)
    assert study["log loss"].mean() == pytest.approx(0.58, abs=0.12)


def test_a_shift_takes_as_much_accuracy_and_log_loss_as_it_says():
    rng = np.random.default_rng(2)
    study = draw(Condition(2, 0.0, 100_000), 2, rng, shifts=(-shift_of(0.05), 0.0))
    for score, gap in (("accuracy", -0.05), ("log loss", true_gap(0.05))):
        first, second = study[score].mean(axis=(1, 2))
        assert first - second == pytest.approx(gap, rel=0.05)


def test_rates_are_means_over_studies_with_their_error():
    said = iter([0.0, 1.0, 1.0, 0.0])
    (rate,) = count("rule", Condition(3, 1.0), 4, lambda rng: {("what", "accuracy"): next(said)})
    assert (rate.rate, rate.error) == pytest.approx((0.5, np.sqrt(1 / 3) / 2))


@pytest.mark.parametrize("rule", verdict_rates.RULES, ids=lambda rule: rule.__name__)
def test_every_rule_is_counted(rule, monkeypatch):
    monkeypatch.setattr(verdict_rates, "conditions", lambda num_items=1000: [Condition(3, 1.0, 50)])
    rates = list(rule(8))
    assert rates
    assert all(np.isfinite(rate.rate) for rate in rates)
    assert all(0 <= rate.rate <= 1 for rate in rates if rate.is_stated and "lift" not in rate.what)
    assert markdown_rows(rates).count("\n") >= 2


def test_what_misses_the_aim_is_marked():
    rates = [Rate("rule", "said", "accuracy", 3, 1.0, 1000, rate, 0.005, True) for rate in (0.02, 0.05)]
    assert "**0.020 ± 0.005**" in markdown_rows(rates[:1])
    assert "| 0.050 ± 0.005 |" in markdown_rows(rates[1:])
