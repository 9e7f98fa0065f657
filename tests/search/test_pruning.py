"""Oracle: each rule's own definition, by hand on small curves."""

from __future__ import annotations

import pytest

from lora_bench.search.pruning import PRUNERS, PruningRule


def no_items(name, step):
    return None


def flat(*values, every=1):
    return {every * (index + 1): value for index, value in enumerate(values)}


def ask(rule, own, *others, items=no_items):
    curves = {f"run-{index}": other for index, other in enumerate(others)} | {"own": own}
    return rule.reason_to_stop("own", curves, items)


def test_asha_keeps_the_best_third_at_a_rung():
    rule = PruningRule("asha", min_steps=3, factor=3)
    others = [{3: value} for value in (0.1, 0.2, 0.3, 0.4, 0.5)]
    # With its own there are 6 at the rung, of which 2 go on.
    assert ask(rule, {3: 0.45}, *others) is None
    assert ask(rule, {3: 0.35}, *others) == "asha: 0.35 at step 3 is not among the best 2 of 6"


def test_asha_judges_a_run_once_at_each_rung():
    rule = PruningRule("asha", min_steps=3, factor=3)
    best = {3: 0.9, 9: 0.9}
    assert ask(rule, {3: 0.5, 4: 0.5}, best) is None
    assert ask(rule, {3: 0.5, 8: 0.5}, best) is None
    assert "at step 9" in ask(rule, {3: 0.95, 9: 0.5}, best)


def test_the_first_at_a_rung_goes_on():
    assert ask(PruningRule("asha", min_steps=1), {1: 0.0}) is None


def test_hyperband_has_brackets_that_begin_later():
    rule = PruningRule("hyperband", min_steps=1, factor=3)
    others = {f"run-{index}": {1: 0.9, 3: 0.9, 9: 0.9} for index in range(3)}
    first_judged = set()
    for index in range(30):
        name = f"trial-{index}"
        for steps in ((1,), (1, 3), (1, 3, 9)):
            curve = dict.fromkeys(steps, 0.1)
            if rule.reason_to_stop(name, {**others, name: curve}, no_items):
                first_judged.add(steps[-1])
                break
    assert first_judged == {1, 3, 9}


def test_median_compares_the_best_so_far_at_the_same_step():
    rule = PruningRule("median", startup_trials=3)
    others = [flat(0.1, 0.5), flat(0.2, 0.6), flat(0.3, 0.7)]
    assert ask(rule, flat(0.25), *others) is None
    assert ask(rule, flat(0.15), *others) == "median: 0.15 at step 1, the median is 0.2"
    assert ask(rule, flat(0.65, 0.0), *others) is None
    assert ask(rule, flat(0.0), *others[:2]) is None


def test_patience_counts_evaluations_without_a_better_value():
    rule = PruningRule("patience", patience=2)
    assert ask(rule, flat(0.5, 0.4)) is None
    assert ask(rule, flat(0.5, 0.4, 0.5)) == "patience: no better value in 2 evaluations"
    assert ask(rule, flat(0.5, 0.4, 0.6)) is None


def test_wilcoxon_pairs_items_with_the_best_at_the_same_step():
    items = {"own": [0] * 30 + [1] * 10, "run-0": [1] * 30 + [1] * 10, "run-1": [0] * 40}
    rule = PruningRule("wilcoxon")
    others = ({5: 1.0}, {5: 0.0})
    found = ask(rule, {5: 0.25}, *others, items=lambda name, step: items[name])
    assert found.startswith("wilcoxon: worse than run-0 over 40 items at step 5, p ")
    # The same mean, item by item inside chance.
    items["own"], items["run-0"] = [1, 0] * 20, [0, 1] * 19 + [1, 1]
    assert ask(rule, {5: 0.5}, {5: 0.525}, items=lambda name, step: items[name]) is None
    assert ask(rule, {4: 0.0}, {5: 1.0}, items=lambda name, step: items[name]) is None


@pytest.mark.parametrize("name", sorted(PRUNERS))
def test_nothing_is_pruned_before_min_steps(name):
    rule = PruningRule(name, min_steps=100, patience=1, startup_trials=1)
    assert ask(rule, flat(0.5, 0.1, 0.1), flat(0.9, 0.9, 0.9)) is None
