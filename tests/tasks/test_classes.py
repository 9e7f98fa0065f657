"""Oracle: orders that are written down here."""

from __future__ import annotations

import itertools

import pytest

from lora_bench.tasks.classes import doubtful_classes, order_classes


@pytest.mark.parametrize(
    "wanted",
    [
        ("neg", "pos"),
        ("2", "9", "10"),
        ("-1", "0", "1"),
        ("01", "1", "1.0", "2"),
        ("-0.5", "0", "0.25"),
        ("1", "2", "x"),
        # Digits of other scripts are texts.
        ("1", "\u0661"),
    ],
)
def test_one_order_whatever_the_order_of_the_items(wanted):
    assert {order_classes(set(order)) for order in itertools.permutations(wanted)} == {wanted}


def test_doubtful_classes():
    notes = list(doubtful_classes(("-", "01", "1", "Yes", "yes"), ["-", "01", "1", "Yes", "yes"]))
    assert notes == [
        "class '-' (1 items) is a class like any other; is it a missing label?",
        "classes '01', '1' differ in spelling alone and are 2 classes; is it one?",
        "classes 'Yes', 'yes' differ in spelling alone and are 2 classes; is it one?",
    ]
    assert list(doubtful_classes(("a", "b"), ["a", "b"])) == []
