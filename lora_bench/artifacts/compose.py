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

from lora_bench.artifacts.folder import check_out, write_model, written_folder
from lora_bench.artifacts.merge import auto_class
from lora_bench.artifacts.network import cast_parameters, load_base, load_mergeable, load_run_tokenizer, merge_adapted
from lora_bench.artifacts.trained import TrainedRun, check_same_base, refuse_quantised
from lora_bench.config.schema import Dtype
from lora_bench.errors import ArtifactError
from lora_bench.models.heads import head_modules, parameter_names
from lora_bench.models.load import TORCH_DTYPES
from lora_bench.placing import needs_untied, untie
from lora_bench.rundir import directory_bytes


@dataclass(frozen=True)
class Part:
    """One run in a sum."""

    trained: TrainedRun
    weight: float


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
    parts: Sequence[Part], out: Path, *, dtype: Dtype | None = None, head: TrainedRun | None = None
) -> ComposeReport:
    """Writes the base with the weighted sum of the runs as a plain model folder.

    Args:
        parts: At least one; a weight may be negative.
        out: A new or empty folder.
        dtype: Of what is written; None takes that of the training.
        head: The run that gives the task head; None averages them.

    Raises:
        UsageError: If `out` is not free.
        ArtifactError: If the runs have different bases or heads, or one cannot be merged.
    """
    out = check_out(out)
    check_parts(parts, head)
    first = parts[0].trained
    written = dtype or first.dtype
    net, touched = add_up(parts, head=head)
    cast_parameters(net, TORCH_DTYPES[written])
    runs = [(part.trained, part.weight) for part in parts]
    with written_folder(out, made_by="compose", runs=runs, dtype=written.value, head=head_text(parts, head)) as folder:
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


def check_parts(parts: Sequence[Part], head: TrainedRun | None) -> None:
    """What can be found wrong before a network is loaded.

    Raises:
        ArtifactError: If the runs cannot be added up.
    """
    runs = [part.trained for part in parts]
    check_same_base(runs)
    for trained in runs:
        refuse_quantised(trained)
    if head is not None or runs[0].num_labels is None:
        return
    if sum(part.weight for part in parts) <= 0 or min(part.weight for part in parts) < 0:
        given = ", ".join(f"{part.weight:g}" for part in parts)
        raise ArtifactError(
            f"the task heads have no mean with the weights {given}; name the run of the head with --head"
        )
    names = {tuple(labels) for labels in (trained.labels for trained in runs) if labels}
    if len(names) > 1:
        listed = " and ".join(f"[{', '.join(labels)}]" for labels in sorted(names))
        raise ArtifactError(f"the task heads have other classes, {listed}; name the run of the head with --head")


def head_text(parts: Sequence[Part], head: TrainedRun | None) -> str:
    """Where the task head of a sum is from; empty for a language model."""
    if parts[0].trained.num_labels is None:
        return ""
    return head.name if head else "weighted mean"


def head_names(net: PreTrainedModel, parts: Sequence[Part]) -> list[str]:
    """Return the names of the parameters that belong to the head of any of the runs."""
    with_pooler = any(part.trained.config.training.head_has_pooler for part in parts)
    return parameter_names(net, head_modules(net, with_pooler=with_pooler))


def add_up(parts: Sequence[Part], *, head: TrainedRun | None) -> tuple[PreTrainedModel, dict[str, int]]:
    """The base with the sum in it, in fp32, and how many runs change each of its changed tensors."""
    net = load_base(head or parts[0].trained)
    if any(needs_untied(part.trained.config) for part in parts):
        untie(net)
    cast_parameters(net, torch.float32)
    heads = set(head_names(net, parts))
    weight_sum = sum(part.weight for part in parts)
    total: dict[str, Tensor] = {}
    touched: dict[str, int] = {}
    for part in parts:
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
