"""Oracle: the change that factors make of a whole matrix, put together from the roles' own in fp64."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lora_bench.artifacts.lowrank import Factors, LowRank, add_low_rank, divide_joined, join_split, read_low_rank
from lora_bench.artifacts.network import load_adapted
from lora_bench.artifacts.trained import open_run
from lora_bench.errors import ArtifactError
from lora_bench.manifest import write_manifest
from lora_bench.models.split import SplitLinear

INNER, RANK = 12, 2


def split_of(head_dim, sizes=(8, 8, 8)):
    return SplitLinear(nn.Linear(INNER, sum(sizes)), ("q", "k", "v"), sizes=sizes, head_dim=head_dim)


def factors(size, *, rank=RANK, scaling=4.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Factors(torch.randn(rank, INNER, generator=generator), torch.randn(size, rank, generator=generator), scaling)


def change(own):
    return own.scaling * (own.b_OR.double() @ own.a_RI.double())


@pytest.mark.parametrize(("head_dim", "sizes"), [(None, (8, 4, 4)), (4, (8, 8, 8))])
def test_joined_factors_are_the_roles_changes_side_by_side(head_dim, sizes):
    split = split_of(head_dim, sizes)
    q, v = factors(sizes[0]), factors(sizes[2], rank=3, scaling=1.0, seed=1)
    joined = join_split({"attn.q": q, "attn.v": v, "mlp": factors(5)}, {"attn": split})
    assert sorted(joined) == ["attn", "mlp"]
    expected = split.put_together([change(q), torch.zeros(sizes[1], INNER, dtype=torch.float64), change(v)])
    # Where two scalings meet, one goes into B, which is fp32.
    assert torch.allclose(change(joined["attn"]), expected, rtol=1e-6, atol=1e-6)
    assert joined["attn"].rank == 5


@pytest.mark.parametrize("head_dim", [None, 4])
@pytest.mark.parametrize("roles", [("q", "v"), ("k",), ("q", "k", "v")])
def test_joined_factors_come_apart_bit_for_bit(head_dim, roles):
    split = split_of(head_dim)
    own = {role: factors(8, seed=index) for index, role in enumerate(roles)}
    joined = join_split({f"attn.{role}": value for role, value in own.items()}, {"attn": split})["attn"]
    divided = divide_joined(joined, split, roles)
    assert list(divided) == list(roles)
    for role, value in own.items():
        assert torch.equal(divided[role].a_RI, value.a_RI)
        assert torch.equal(divided[role].b_OR, value.b_OR)
        assert divided[role].scaling == value.scaling


def test_a_sum_has_the_summed_rank_and_the_weighted_changes():
    one, other = factors(8), factors(8, rank=3, scaling=0.5, seed=1)
    alone = factors(6, seed=2)
    total = add_low_rank([(LowRank({"a": one}, {}), 0.7), (LowRank({"a": other, "b": alone}, {}), -0.3)])
    assert {name: own.rank for name, own in total.items()} == {"a": 5, "b": 2}
    assert torch.allclose(change(total["a"]), 0.7 * change(one) - 0.3 * change(other), rtol=1e-6, atol=1e-6)
    assert torch.allclose(change(total["b"]), -0.3 * change(alone), rtol=1e-6, atol=1e-6)


def test_a_run_gives_factors_of_the_plain_matrices(trained):
    run = trained("gpt2_qv")
    found = read_low_rank(run, load_adapted(run))
    assert sorted(found.factors) == [f"transformer.h.{layer}.attn.c_attn" for layer in range(2)]
    assert {(own.rank, own.scaling) for own in found.factors.values()} == {(4, 16.0)}  # two roles of rank 2; alpha / r
    assert list(found.head) == ["score.weight"]


def test_what_is_neither_factor_nor_head_is_refused(copy_of, trained):
    run = copy_of("gpt2_qv")
    path = run.weights / "adapter_model.safetensors"
    bias = "base_model.model.transformer.h.0.attn.c_attn.q.bias"
    save_file({**load_file(path), bias: torch.zeros(32)}, path)
    write_manifest(run.weights)
    opened = open_run(run)
    with pytest.raises(ArtifactError, match=f"its adapter holds {bias}, and only plain LoRA can be taken apart"):
        read_low_rank(opened, load_adapted(trained("gpt2_qv")))


def test_what_is_no_plain_lora_is_refused(trained):
    run = trained("bert_full")
    with pytest.raises(ArtifactError, match="is of type none of PEFT, and only plain LoRA can be taken apart"):
        read_low_rank(run, load_adapted(run))
