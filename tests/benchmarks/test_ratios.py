"""Oracle: made-up seconds whose ratios are done in the head."""

from __future__ import annotations

import pytest
from ratios import print_summary, summarise
from wall_parts import PARTS, Makespan, RunEnd


def made_up(contestant, *, steps_s, other_s, accuracy=0.7):
    parts = dict.fromkeys(PARTS, 0.0) | {"steps": steps_s, "start": other_s}
    return Makespan(contestant, steps_s + other_s, parts, [RunEnd(1, 0, 60, 100, 42_627, accuracy)])


def test_ratios_parts_and_the_estimate_for_longer_runs():
    members = [
        made_up("study_bf16", steps_s=10, other_s=10, accuracy=0.72),
        made_up("script_bf16", steps_s=30, other_s=20),
        made_up("script_bf16_longest", steps_s=24, other_s=20),
        made_up("study_bf16", steps_s=10, other_s=20),
        made_up("script_bf16", steps_s=30, other_s=20),
    ]
    summary = summarise(members, steps=60)
    assert set(summary["ratios"]) == {"study_bf16 / script_bf16", "study_bf16 / script_bf16_longest"}
    ratio = summary["ratios"]["study_bf16 / script_bf16"]
    assert (ratio["min"], ratio["median"], ratio["max"]) == pytest.approx((20 / 50, 25 / 50, 30 / 50))
    assert ratio["at_300_steps"] == pytest.approx((15 + 50) / (20 + 150))
    assert (ratio["difference_s"]["start"], ratio["difference_s"]["steps"]) == (5, 20)
    assert ratio["accuracy_difference"] == pytest.approx(0.02)
    assert summary["padding_to_max_length_s"] == {"script_bf16": {"steps": 6, "evaluation": 0}}


def test_every_contestant_and_every_ratio_is_printed(capsys):
    members = [made_up("study_bf16", steps_s=10, other_s=10), made_up("script_fp32", steps_s=60, other_s=20)]
    print_summary(summarise(members, steps=300))
    lines = capsys.readouterr().out.splitlines()
    (ratio,) = [line for line in lines if line.startswith("study_bf16 / script_fp32") and "0.333" in line]
    assert ratio.split()[3:] == ["0.250", "0.250", "0.250", "0.333", "0.250", "+0.000"]
    assert any(line.startswith("script_fp32") and " 80.0" in line for line in lines)
