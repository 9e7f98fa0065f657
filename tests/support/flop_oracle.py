"""What `torch.utils.flop_counter` sees of a step of a tiny network, beside what `count_flops` says."""

from __future__ import annotations

import numpy as np
from support.method_cases import Case, batch
from torch.utils.flop_counter import FlopCounterMode

from lora_bench.config.schema import TaskKind
from lora_bench.methods.fused import unfuse
from lora_bench.prepared import count_flops
from lora_bench.tasks.encode import EncodedSplit

NUM_TEXTS, NUM_PROMPT, NUM_RESPONSE = 4, 12, 6
"""Of `batch`, padding taken for tokens: the counter does not tell them apart."""
NUM_TOKENS = NUM_TEXTS * NUM_PROMPT


def counted(case: Case) -> float:
    """Per token of a prompt, so that an encoder with a decoder is told like the others."""
    is_pair = case.placed.has_encoder
    length = NUM_PROMPT + (NUM_RESPONSE if is_pair else 0)
    split = EncodedSplit(
        item_ids=tuple(map(str, range(NUM_TEXTS))),
        tokens=np.full(NUM_TEXTS * length, 5, dtype=np.int32),
        offsets=np.arange(NUM_TEXTS + 1, dtype=np.int64) * length,
        labels=None if is_pair else np.zeros(NUM_TEXTS, dtype=np.int64),
        prompt_lengths=np.full(NUM_TEXTS, NUM_PROMPT, dtype=np.int64) if is_pair else None,
        max_length=length,
        num_cut=0,
        num_cut_responses=0,
        start_id=0 if is_pair else None,
    )
    found = count_flops(case.net, case.placed, split, pad_id=0, num_added=case.config.method.num_added_tokens)
    return found * split.num_tokens / NUM_TOKENS


def measured(case: Case) -> float:
    """Matrix products of a forward and a backward pass, those of head and pooler left out.

    PEFT's own layers compute them: the counter does not know of products that are added in place.
    """
    unfuse(case.net)
    case.net.train()
    with FlopCounterMode(display=False, depth=None) as mode:
        case.loss().backward()
    once = [*case.placed.head_modules, "pooler"] if case.config.task.kind is TaskKind.classification else []
    counts = mode.get_flop_counts()
    heads = [name for name in counts if name.rpartition(".")[2] in once]
    assert bool(heads) == bool(once), f"{once} in {sorted(counts)}"
    assert len(batch()["input_ids"]) == NUM_TEXTS
    return _products(counts["Global"]) - sum(_products(counts[name]) for name in heads)


def _products(counts: dict[object, int]) -> int:
    """Those with a weight; the scores of attention are products in batches (`bmm`)."""
    return sum(count for operation, count in counts.items() if str(operation) in ("aten.mm", "aten.addmm"))
