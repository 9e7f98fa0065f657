"""What is saved in PEFT's format is whole there, or does not look like it. Oracle: `PeftModel.from_pretrained`."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel
from support.method_cases import CASES, SMALL, build_case

from lora_bench.methods.adapted import AdaptedMethod
from lora_bench.methods.fused import unfuse
from lora_bench.rundir import OWN_CONFIG_FILE, PEFT_CONFIG_FILE, find_adapter_config

ARCHITECTURES = ("bert", "gpt2", "llama", "qwen3_moe")
NOT_PEFT_ALONE = ("pissa", "olora", "qlora", "loftq", "lora_prefix_embed", "lora_prefix_layer")
"""Methods that change the base, or train something beside the adapter."""


def through_peft(method, architecture, folder, cache):
    """The logits of the plain network with what a user of PEFT makes of the folder."""
    plain = build_case("full", architecture, folder=cache).net
    net = PeftModel.from_pretrained(plain, str(folder))
    return build_case("full", architecture, folder=cache).logits(net)


@pytest.mark.parametrize(
    ("method", "architecture"), [case for case in CASES if case[1] in ARCHITECTURES and case[0] != "full"]
)
def test_a_plain_load_gives_the_same_outputs_or_refuses(method, architecture, tmp_path):
    case = build_case(method, architecture, folder=tmp_path)
    case.train()
    case.method.save(case.net, tmp_path / "weights")
    config = find_adapter_config(tmp_path / "weights")
    is_split = bool(case.placed.split_modules)
    assert is_split == (architecture in ("gpt2", "qwen3_moe") and bool(case.placed.target_modules))
    is_adapter = isinstance(case.method, AdaptedMethod) or method in NOT_PEFT_ALONE
    if not is_adapter:
        assert config is None
        return
    assert config is not None
    assert (config.name == OWN_CONFIG_FILE) == (is_split or method in NOT_PEFT_ALONE)
    if config.name == PEFT_CONFIG_FILE:
        unfuse(case.net)
        found = through_peft(method, architecture, tmp_path / "weights", tmp_path)
        torch.testing.assert_close(found, case.logits(), rtol=1e-5, atol=1e-5)
        return
    with pytest.raises(ValueError, match=r"Can't find 'adapter_config\.json'"):
        through_peft(method, architecture, tmp_path / "weights", tmp_path)
    text = (tmp_path / "weights" / "README.md").read_text(encoding="utf-8")
    assert "`lora-bench export RUN --out DIR` writes PEFT's format" in text


def test_under_pefts_name_a_plain_load_drops_what_it_does_not_find(tmp_path):
    """Why the name is another one: PEFT 0.21 warns at most, and the outputs are others."""
    case = build_case("lora", "gpt2", "placement=all", folder=tmp_path)
    case.train()
    case.method.save(case.net, tmp_path / "weights")
    (tmp_path / "weights" / OWN_CONFIG_FILE).rename(tmp_path / "weights" / PEFT_CONFIG_FILE)
    found, expected = through_peft("lora", "gpt2", tmp_path / "weights", tmp_path), case.logits()
    assert (found - expected).norm() > 0.05 * expected.norm()


@pytest.mark.parametrize("method", ["lora", "adalora", "pissa"])
def test_a_folder_of_an_older_version_is_read(method, tmp_path):
    words = SMALL.get(method, ())
    case = build_case(method, "gpt2", *words, folder=tmp_path)
    case.train(steps=6)
    case.method.save(case.net, tmp_path / "weights")
    (tmp_path / "weights" / OWN_CONFIG_FILE).rename(tmp_path / "weights" / PEFT_CONFIG_FILE)
    fresh = build_case(method, "gpt2", *words, folder=tmp_path, seed=1)
    fresh.method.load(fresh.net, tmp_path / "weights")
    assert torch.equal(fresh.logits(), case.logits())
