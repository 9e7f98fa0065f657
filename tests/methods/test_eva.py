"""Oracle: the singular value decomposition of what a matrix read."""

from __future__ import annotations

from itertools import repeat

import pytest
import torch
from support.method_cases import batch, build_case

from lora_bench.errors import DataError
from lora_bench.methods.lora import lora_layers


def read_by(case, name):
    """What a matrix of the plain network reads, shape (texts, tokens, features)."""
    seen = []
    handle = case.net.get_submodule(name).register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    case.logits()
    handle.remove()
    return seen[0]


def test_a_spans_the_principal_directions_of_the_inputs(tmp_path):
    case = build_case("eva", "bert", "placement=q", "method.rho=1", folder=tmp_path)
    plain = build_case("full", "bert", folder=tmp_path)
    for name, layer in lora_layers(case.net).items():
        tokens = read_by(plain, name)[batch()["attention_mask"].bool()]
        _, _, directions = torch.linalg.svd(tokens - tokens.mean(dim=0), full_matrices=False)
        found = layer.lora_A["default"].weight.detach()
        assert found.shape == (2, 32)
        overlap = torch.linalg.svdvals(found @ directions[:2].T)
        # The cosine at which a direction counts as found is 0.99.
        torch.testing.assert_close(overlap, torch.ones(2), rtol=0, atol=0.03)


def test_ranks_are_shared_out_and_their_sum_is_kept(tmp_path):
    case = build_case("eva", "bert", "placement=all", "lora.r=4", folder=tmp_path)
    ranks = [layer.r["default"] for layer in lora_layers(case.net).values()]
    assert sum(ranks) == 4 * 12
    assert max(ranks) <= 8
    assert len(set(ranks)) > 1
    assert case.method.notes == [
        f"eva: ranks of {min(ranks)} to {max(ranks)} on {len(ranks)} matrices, by what they read"
    ]


def test_a_saved_adapter_needs_no_data(tmp_path):
    case = build_case("eva", "bert", "placement=all", "lora.r=4", folder=tmp_path)
    case.train()
    expected = case.logits()
    case.method.save(case.net, tmp_path / "weights")
    fresh = build_case("lora", "bert", "placement=all", "lora.r=4", folder=tmp_path)  # only to have the base again
    fresh.net = case.method.apply(fresh.net.unload(), fresh.placed)
    case.method.load(fresh.net, tmp_path / "weights")
    assert torch.equal(fresh.logits(), expected)


def test_fewer_tokens_than_directions_are_refused(tmp_path):
    case = build_case("eva", "bert", "lora.r=16", folder=tmp_path)
    few = {name: value[:1, :8] if value.dim() == 2 else value[:1] for name, value in batch().items()}
    with pytest.raises(DataError, match=r"a batch of 8 tokens has fewer than lora\.r=16 directions; raise"):
        case.method.see_data(case.net, repeat(few))
