"""Oracles: the cubic schedule of the paper, and PEFT's own model, whose loss holds the penalty."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from support.method_cases import batch, build_case

from lora_bench.methods.adapted import ADAPTER_FILE

WORDS = ("lora.r=4", "method.start_factor=2", "training.max_steps=20", "method.every=2")


def left(case):
    """Triplets that are not zero, over all matrices."""
    values = [value for name, value in case.net.named_parameters() if "lora_E" in name]
    return sum(int((value != 0).sum()) for value in values), 4 * len(values)


def test_the_average_rank_falls_to_the_one_that_was_asked_for_and_stays(tmp_path):
    case = build_case("adalora", "bert", *WORDS, folder=tmp_path)
    counts = []
    for _ in range(20):
        case.train(steps=1)
        counts.append(left(case)[0])
    target = left(case)[1]
    assert counts[0] == 2 * target, "before the first step all singular values are zero, after it none is"
    assert counts[14:] == [target] * 6, "the last 6 of 20 steps train with fixed ranks"
    # Cubic between steps 2 and 14 (equation 12 of arXiv:2303.10512), decided at even steps.
    expected = int(target + target * (1 - (8 - 2) / (20 - 6 - 2)) ** 3)
    assert counts[7] == pytest.approx(expected, abs=1)


def test_what_is_saved_has_the_ranks_that_were_left(tmp_path):
    case = build_case("adalora", "gpt2", *WORDS, folder=tmp_path)
    case.train(steps=20)
    expected, (number, _) = case.logits(), left(case)
    case.method.save(case.net, tmp_path / "weights")
    fresh = build_case("adalora", "gpt2", *WORDS, folder=tmp_path, seed=1)
    fresh.method.load(fresh.net, tmp_path / "weights")
    assert torch.equal(fresh.logits(), expected)
    rows = [len(value) for name, value in load_file(tmp_path / "weights" / ADAPTER_FILE).items() if "lora_A" in name]
    assert sum(rows) == number
    assert len(set(rows)) > 1
    assert left(fresh)[0] == number


def test_the_penalty_is_the_one_that_peft_adds(tmp_path):
    case = build_case("adalora", "bert", folder=tmp_path)
    output = case.net(**batch())
    plain = torch.nn.functional.cross_entropy(output.logits, batch()["labels"])
    torch.testing.assert_close(output.loss - plain, case.method.penalty(case.net))


def test_the_scale_is_that_of_the_rank_that_was_asked_for(tmp_path):
    case = build_case("adalora", "bert", "lora.r=4", "lora.alpha=32", folder=tmp_path)
    layer = next(module for module in case.net.modules() if hasattr(module, "ranknum"))
    scale = layer.scaling["default"] / float(layer.ranknum["default"])
    assert scale == 8.0
