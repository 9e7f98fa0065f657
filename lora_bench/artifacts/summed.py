"""The weighted sum of LoRA runs as one adapter of the summed rank, in PEFT's format (its `cat`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_bench.artifacts.checks import Part, check_summable
from lora_bench.artifacts.compose import add_up, head_names, head_text
from lora_bench.artifacts.folder import check_out, written_folder
from lora_bench.artifacts.lowrank import LowRank, add_low_rank, read_low_rank, write_low_rank
from lora_bench.artifacts.network import cast_parameters, load_adapted, load_base, logits, probe_batch
from lora_bench.artifacts.peftfolder import (
    Expected,
    base_reference,
    tied_text,
    try_adapter,
    write_base,
    write_card,
)
from lora_bench.artifacts.telling import Tell, silent
from lora_bench.artifacts.trained import TrainedRun
from lora_bench.models.load import TORCH_DTYPES
from lora_bench.rundir import directory_bytes


@dataclass(frozen=True)
class SummedReport:
    """What was written, and how far PEFT's outputs are from those of the merged sum, as parts of the largest logit."""

    folder: str
    base: str
    """Where the base is loaded from."""
    num_bytes: int
    rank: int
    """The largest of a matrix."""
    head: str
    difference: float
    """In the dtype of the training, where adapter and merged weights round apart."""
    fp32_difference: float


def compose_adapter(
    parts: Sequence[Part],
    out: Path,
    *,
    head: TrainedRun | None = None,
    with_base: bool = False,
    tell: Tell = silent,
) -> SummedReport:
    """Writes the sum as an adapter folder; arguments as `compose_runs`.

    Raises:
        UsageError: If `out` is not free.
        ArtifactError: If the runs cannot be added up, are not plain LoRA, or PEFT's outputs are not those of the sum.
    """
    out = check_out(out)
    check_summable(parts, head, with_base=with_base)
    first = head or parts[0].trained
    base = base_reference(first, out, with_base=with_base)
    tell("reading the adapters")
    own = [(read_low_rank(part.trained, load_adapted(part.trained)), part.weight) for part in parts]
    total, _ = add_up(parts, head=head, tell=tell)
    heads = {
        name: total.get_parameter(name).detach().to(TORCH_DTYPES[first.dtype]) for name in head_names(total, parts)
    }
    total.load_state_dict(heads, strict=False)  # PEFT keeps a head in the dtype of the base; its rounding is no error.
    batch = probe_batch(total)
    fp32 = logits(total, batch)
    cast_parameters(total, TORCH_DTYPES[first.dtype])
    summed = LowRank(add_low_rank(own), heads)
    runs = [(part.trained, part.weight) for part in parts]
    with written_folder(out, made_by="compose --adapter", runs=runs, head=head_text(parts, head)) as folder:
        tell(f"writing {out} and trying it with PEFT")
        write_low_rank(summed, folder, plain=load_base(first), kind=first.kind, base=base)
        plain = write_base(first, folder, with_base=with_base)
        terms = ", ".join(f"{part.weight:g} of `{part.trained.name}`" for part in parts)
        text = f"The sum of {terms}, by `lora-bench compose`." + tied_text([part.trained for part in parts], plain)
        write_card(first, folder, out=out, base=base, text=text, pad_token_id=plain.config.pad_token_id)
        agreement = try_adapter(
            folder, plain, Expected(batch, logits(total, batch), fp32), advice="use compose without --adapter"
        )
    return SummedReport(
        folder=str(out),
        base=base,
        num_bytes=directory_bytes(out),
        rank=max(factors.rank for factors in summed.factors.values()),
        head=head_text(parts, head),
        difference=agreement.difference,
        fp32_difference=agreement.fp32_difference,
    )
