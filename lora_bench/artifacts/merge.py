"""Writes a trained run as a plain model folder, and proves that it is the same function.

W + scale B A is computed in fp32 and rounded once, to the dtype that is written. Merged and unmerged network are
compared before the folder appears: in fp32, where only the order of additions differs, and as written. Where there are
experts the comparison in fp32 sends each token to the same ones, since a router near a tie would change its choice with
the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from lora_bench.artifacts.checks import check_mergeable
from lora_bench.artifacts.folder import check_out, write_model, written_folder
from lora_bench.artifacts.network import (
    cast_parameters,
    load_adapted,
    load_base,
    load_mergeable,
    load_run_tokenizer,
    logits,
    merge_adapted,
    probe_batch,
    relative_difference,
)
from lora_bench.artifacts.telling import Tell, silent
from lora_bench.artifacts.trained import TrainedRun
from lora_bench.config.schema import Dtype, TaskKind
from lora_bench.errors import ArtifactError
from lora_bench.methods.quantised import dequantise
from lora_bench.models import decoder_start, load, read_architecture
from lora_bench.models.folders import read_config
from lora_bench.models.load import TORCH_DTYPES
from lora_bench.models.quiet import quiet
from lora_bench.models.routing import recorded_routing, replayed_routing
from lora_bench.rundir import directory_bytes

EXACT = 1e-3
"""Largest relative difference of the logits in fp32. A tiny network has 1e-6; thirty layers add up to 1e-4."""


@dataclass(frozen=True)
class MergeReport:
    """What was written, and how far its outputs are from the unmerged network's, in parts of its largest logit."""

    folder: str
    auto_class: str
    """Class of transformers that loads it."""
    dtype: str
    num_bytes: int
    fp32_difference: float
    """Merged against unmerged, both in fp32."""
    written_difference: float
    """What was written, read back, against the unmerged network in the dtype that it was trained in."""
    trained_difference: float
    """What training has done: the unmerged network against its base. The measure for the other two."""
    is_dequantised: bool
    """Whether the base was in four bits in the run; it is whole here."""


def merge_run(
    trained: TrainedRun,
    out: Path,
    *,
    dtype: Dtype | None = None,
    with_dequantised: bool = False,
    tell: Tell = silent,
) -> MergeReport:
    """Writes the merged model; `dtype=None` takes that of the training.

    `with_dequantised` merges a run whose base is in four bits into what these stand for, which is exact; the model is
    then whole.

    Raises:
        UsageError: If `out` is not free, or there are no four bits to be made whole.
        ArtifactError: If the run cannot be merged, or the outputs are not those of the unmerged network.
    """
    out = check_out(out)
    check_mergeable(trained, with_dequantised=with_dequantised)
    written = dtype or trained.dtype
    tell("loading the base")
    base = load_base(trained)
    batch = probe_batch(base)
    untrained = logits(base, batch)
    del base
    tell("loading what the run trained")
    adapted = load_adapted(trained) if with_dequantised else load_mergeable(trained)
    expected = logits(adapted.net, batch)
    dequantise(adapted.net)
    tell("adding it to the base and comparing the outputs")
    with recorded_routing(cast_parameters(adapted.net, torch.float32)) as routing:
        exact = logits(adapted.net, batch)
    merged = merge_adapted(trained, adapted)
    with replayed_routing(merged, routing):
        fp32_difference = relative_difference(logits(merged, batch), exact)
    if not fp32_difference <= EXACT:
        raise ArtifactError(
            f"{trained.name}: merged and unmerged outputs differ by {fp32_difference:.1g} of the largest logit in "
            f"fp32, where {EXACT:.0e} is rounding; nothing was written; a fault of method={trained.config.method.name}"
        )
    cast_parameters(merged, TORCH_DTYPES[written])
    facts = {"dtype": written.value, "is_dequantised": with_dequantised}
    with written_folder(out, made_by="merge", runs=[(trained, 1.0)], **facts) as folder:
        tell(f"writing {out} and reading it back")
        write_model(merged, load_run_tokenizer(trained), folder)
        del merged
        read_back = logits(read_model(folder, trained.kind), batch)
    return MergeReport(
        folder=str(out),
        auto_class=auto_class(trained).__name__,
        dtype=written.value,
        num_bytes=directory_bytes(out),
        fp32_difference=fp32_difference,
        written_difference=relative_difference(read_back, expected),
        trained_difference=relative_difference(untrained, expected),
        is_dequantised=with_dequantised,
    )


def auto_class(trained: TrainedRun) -> Any:
    """The class of transformers that loads a model folder with this run's head."""
    architecture = read_architecture(trained.config.model)
    return load.auto_class(trained.kind, has_encoder=decoder_start(architecture) is not None)


def read_model(folder: Path, kind: TaskKind) -> PreTrainedModel:
    """As a user would, without a network and without a pickle."""
    has_encoder = decoder_start(read_config(folder)) is not None
    with quiet():
        net: PreTrainedModel = load.auto_class(kind, has_encoder=has_encoder).from_pretrained(
            folder, dtype="auto", local_files_only=True, use_safetensors=True
        )
    return net.eval()
