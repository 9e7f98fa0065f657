"""Oracle: the standard library and git, asked another way."""

from __future__ import annotations

import os
import platform

import pytest
import torch

from lora_bench.measure import machine


def test_provenance_names_this_machine():
    made = machine.provenance(seed=3, num_threads=1, weights_digest="w", data_digest="d")
    assert made.python == platform.python_version()
    assert made.versions["torch"] == torch.__version__
    assert f"{len(os.sched_getaffinity(0))} cores" in made.hardware
    assert made.commit is None or len(made.commit) == 40
    assert "pytest" in made.command or "python" in made.command


def test_where_there_is_no_checkout_the_environment_names_the_commit(monkeypatch):
    def no_git(*words):
        raise FileNotFoundError("git")

    monkeypatch.setattr(machine, "_git", no_git)
    monkeypatch.setenv(machine.COMMIT_VARIABLE, "0" * 40)
    assert machine.source_commit.__wrapped__() == ("0" * 40, None)
    monkeypatch.setenv(machine.COMMIT_VARIABLE, "")
    assert machine.source_commit.__wrapped__() == (None, None)


@pytest.mark.parametrize(
    ("flags", "is_told"),
    [
        ({"sse2", "avx", "avx2"}, True),
        ({"avx", "avx2", "avx512f"}, True),
        ({"avx", "avx2", "avx512f", "avx512_bf16"}, False),
        ({"avx", "avx2", "avx512f", "amx_bf16"}, False),
        (set(), False),  # the kernel does not say, or another architecture
    ],
)
def test_a_cpu_without_bf16_is_told(monkeypatch, flags, is_told):
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset(flags))
    note = machine.slow_bf16_note()
    assert (note is not None and "training.dtype=fp32" in note) == is_told
