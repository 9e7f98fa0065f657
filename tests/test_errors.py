"""Oracle: what a terminal shows of a message: nothing unseen is in it, and it ends within a few lines."""

from __future__ import annotations

import pickle

import pytest

from lora_bench.errors import ConfigError, Fault, suggest


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault("lora.r\u202e=4", "no key"), r"lora.r\u202e=4: no key"),
        (Fault("a\x1b[31m\n", "x\u00a0y"), r"a\x1b[31m\n: x\xa0y"),
        (Fault("task.train", "größe.csv\nis not there"), "task.train: größe.csv\nis not there"),
        (Fault("seed", f"{'9' * 400} is not in 0 to 4294967295"), "seed: 9999999999... (400 digits) is not in 0 to"),
        (Fault("seed", f"-{'9' * 40} is below 0"), f"seed: -{'9' * 40} is below 0"),
    ],
)
def test_a_fault_is_legible(fault, told):
    assert str(fault).startswith(told)


def test_faults_are_counted_once_and_cross_processes():
    err = ConfigError([Fault("seed", "x"), Fault("seed", "x"), Fault("again", "y")])
    assert str(err) == "2 problems in this run\n  seed: x\n  again: y"
    assert str(pickle.loads(pickle.dumps(err))) == str(err)


def test_the_nearest_name_is_suggested():
    assert suggest("bf17", ["bf16", "fp32"]) == " (did you mean 'bf16'?)"
    assert suggest("zzz", ["bf16"]) == ""
