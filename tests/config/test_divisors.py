"""Oracle: trial division by every number; a batch that no run has is refused in no time, whatever it is divided by."""

from __future__ import annotations

import pytest

from lora_bench.config.bounds import BOUNDS
from lora_bench.config.divisors import MOST, divisors
from lora_bench.config.overrides import compose_config
from lora_bench.config.resolve import resolve
from lora_bench.errors import ConfigError


@pytest.mark.parametrize("number", [1, 2, 12, 36, 97, 720, 1000])
def test_all_divisors_in_order(number):
    assert divisors(number) == [size for size in range(1, number + 1) if number % size == 0]


def test_only_batches_are_divided():
    assert BOUNDS["training.batch_size"][1] == MOST
    assert divisors(MOST)[-1] == MOST
    assert divisors(0) == divisors(-4) == divisors(MOST + 1) == divisors(10**400) == []


def test_a_batch_beyond_all_bounds_is_refused_at_once():
    words = ["processes=ddp", "processes.count=2", "training.micro_batch_size=2", f"training.batch_size={10**15 + 1}"]
    with pytest.raises(ConfigError, match=r"training.batch_size: 1000000000000001 is not in 1 to 1000000"):
        resolve(compose_config(words))
