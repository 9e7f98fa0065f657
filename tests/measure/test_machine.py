"""Oracle: the standard library and git, asked another way."""

from __future__ import annotations

import os
import platform

import torch

from lora_bench.measure import machine


def test_provenance_names_this_machine():
    made = machine.provenance(seed=3, num_threads=1, weights_digest="w", data_digest="d")
    assert made.python == platform.python_version()
    assert made.versions["torch"] == torch.__version__
    assert f"{len(os.sched_getaffinity(0))} cores" in made.hardware
    assert made.commit is None or len(made.commit) == 40
    assert "pytest" in made.command or "python" in made.command
