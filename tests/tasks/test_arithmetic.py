"""Oracle: Python's own arithmetic."""

from __future__ import annotations

import pytest

from lora_bench.config.schema import ArithmeticConfig
from lora_bench.tasks import load_task


@pytest.mark.parametrize(("num_digits", "count"), [(1, 110), (2, 10_100), (3, 20_000), (9, 20_000)])
def test_answers_are_right_and_questions_distinct(num_digits, count):
    data = load_task(ArithmeticConfig(num_digits=num_digits))
    items = data.train + data.validation + data.test
    assert len(items) == len({item.text for item in items}) == count
    assert len(data.validation + data.test) == count // 5
    for item in items:
        a, sign, b, equals = item.text.split(" ")
        assert equals == "="
        assert max(len(a), len(b)) <= num_digits
        assert int(a) >= int(b)
        assert item.response == f" {int(a) + int(b) if sign == '+' else int(a) - int(b)}"


def test_all_questions_of_one_digit_are_there():
    data = load_task(ArithmeticConfig(num_digits=1))
    wanted = {f"{a} {sign} {b} =" for a in range(10) for b in range(a + 1) for sign in "+-"}
    assert {item.text for item in data.train + data.validation + data.test} == wanted


def test_order_on_record():
    data = load_task(ArithmeticConfig())
    assert [item.item_id for item in data.validation[:3]] == ["78 - 74", "82 + 42", "25 - 6"]
    assert load_task(ArithmeticConfig(split_seed=1)).digest != data.digest
