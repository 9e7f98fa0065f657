"""Adds what several runs trained, each with its weight, onto their one base: W + 0.7 B1 A1 + 0.3 B2 A2.

The changes of the runs are taken as merged weights minus base and summed in fp64, tensor by tensor, and rounded once.
So ranks, placements and even methods may differ, as long as each method merges: it is the exact sum, which PEFT's
`cat` gives for LoRA, and not the product of summed factors that its `linear` gives.

A task head replaces something and adds to nothing, so heads are averaged, with the weights scaled to sum up to 1, or
taken from one run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lora_bench.artifacts.checks import Part, check_parts
from lora_bench.artifacts.folder import check_out, write_model, written_folder
from lora_bench.artifacts.merge import auto_class
from lora_bench.artifacts.network import cast_parameters, load_base, load_mergeable, load_run_tokenizer, merge_adapted
from lora_bench.artifacts.telling import Tell, silent
from lora_bench.artifacts.trained import TrainedRun
from lora_bench.config.schema import Dtype
from lora_bench.models.heads import head_modules, parameter_names
from lora_bench.models.load import TORCH_DTYPES
from lora_bench.placing import needs_untied, untie
from lora_bench.rundir import directory_bytes


@dataclass(frozen=True)
class ComposeReport:
    """What was written."""

    folder: str
    auto_class: str
    """Class of transformers that loads it."""
    dtype: str
    num_bytes: int
    num_changed: int
    """Tensors of the base that the sum changes."""
    num_shared: int
    """Those of them that more than one run changes."""
    head: str
    """Where the task head is from; empty for a language model."""


def compose_runs(
    parts: Sequence[Part],
    out: Path,
    *,
    dtype: Dtype | None = None,
    head: TrainedRun | None = None,
    tell: Tell = silent,
) -> ComposeReport:
    """Writes the base with the weighted sum of the runs as a plain model folder.

    Args:
        parts: At least one; a weight may be negative.
        out: A new or empty folder.
        dtype: Of what is written; None takes that of the training.
        head: The run that gives the task head; None averages them.
        tell: Hears what is being done.

    Raises:
        UsageError: If `out` is not free.
        ArtifactError: If the runs have different bases or heads, or one cannot be merged.
    """
    out = check_out(out)
    check_parts(parts, head)
    first = parts[0].trained
    written = dtype or first.dtype
    net, touched = add_up(parts, head=head, tell=tell)
    cast_parameters(net, TORCH_DTYPES[written])
    runs = [(part.trained, part.weight) for part in parts]
    with written_folder(out, made_by="compose", runs=runs, dtype=written.value, head=head_text(parts, head)) as folder:
        tell(f"writing {out}")
        write_model(net, load_run_tokenizer(first), folder)
    return ComposeReport(
        folder=str(out),
        auto_class=auto_class(first).__name__,
        dtype=written.value,
        num_bytes=directory_bytes(out),
        num_changed=len(touched),
        num_shared=sum(count > 1 for count in touched.values()),
        head=head_text(parts, head),
    )


def head_text(parts: Sequence[Part], head: TrainedRun | None) -> str:
    """Where the task head of a sum is from; empty for a language model."""
    if parts[0].trained.num_labels is None:
        return ""
    return head.name if head else "weighted mean"


def head_names(net: PreTrainedModel, parts: Sequence[Part]) -> list[str]:
    """Return the names of the parameters that belong to the head of any of the runs."""
    with_pooler = any(part.trained.config.training.head_has_pooler for part in parts)
    return parameter_names(net, head_modules(net, with_pooler=with_pooler))


def add_up(
    parts: Sequence[Part], *, head: TrainedRun | None, tell: Tell = silent
) -> tuple[PreTrainedModel, dict[str, int]]:
    """The base with the sum in it, in fp32, and how many runs change each of its changed tensors."""
    tell("loading the base")
    net = load_base(head or parts[0].trained)
    if any(needs_untied(part.trained.config) for part in parts):
        untie(net)
    cast_parameters(net, torch.float32)
    heads = set(head_names(net, parts))
    weight_sum = sum(part.weight for part in parts)
    total: dict[str, Tensor] = {}
    touched: dict[str, int] = {}
    for index, part in enumerate(parts, start=1):
        tell(f"adding run {index} of {len(parts)}, {part.trained.name}")
        merged = merge_adapted(part.trained, load_mergeable(part.trained))
        own_head = 1.0 if head is not None and part.trained.run == head.run else 0.0
        head_weight = part.weight / weight_sum if head is None else own_head
        for name, base in net.named_parameters():
            value = merged.get_parameter(name).detach().double()
            if name in heads:
                total[name] = total.get(name, torch.zeros_like(value)) + head_weight * value
            elif not torch.equal(value, base.detach().double()):
                start = total.get(name, base.detach().double())
                total[name] = start + part.weight * (value - base.detach().double())
                touched[name] = touched.get(name, 0) + 1
    with torch.no_grad():
        for name, value in total.items():
            net.get_parameter(name).copy_(value)
    return net, touched
