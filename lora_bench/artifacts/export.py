"""Writes a run's adapter as PEFT's own folder, for the plain architecture, with the run's record beside it.

Where the run adapts whole matrices, its file is copied byte for byte. Where it split a fused one, the factors are
joined (`lowrank`). Either way `PeftModel.from_pretrained` is tried on the folder before it appears.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from lora_bench.artifacts.checks import check_exportable
from lora_bench.artifacts.exported import RECORD_FOLDER, RECORDED, WEIGHTS_LIST
from lora_bench.artifacts.folder import check_out, written_folder
from lora_bench.artifacts.lowrank import read_low_rank, split_modules, write_low_rank
from lora_bench.artifacts.network import Adapted, cast_parameters, load_adapted, load_base, logits, probe_batch
from lora_bench.artifacts.peftfolder import (
    Expected,
    base_reference,
    tied_text,
    try_adapter,
    write_base,
    write_card,
)
from lora_bench.artifacts.restore import can_restore
from lora_bench.artifacts.telling import Tell, silent
from lora_bench.artifacts.trained import ADAPTER_FILE, TrainedRun
from lora_bench.manifest import write_manifest
from lora_bench.methods.fused import unfuse
from lora_bench.rundir import PEFT_CONFIG_FILE, directory_bytes, find_adapter_config


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how far PEFT's outputs are from the run's, as parts of the largest logit."""

    folder: str
    base: str
    """Where the base is loaded from."""
    num_bytes: int
    num_joined: int
    """Fused matrices whose factors were joined; with none the run's file was copied."""
    difference: float
    """In the dtype of the training; 0 is bit for bit."""
    fp32_difference: float
    is_restorable: bool
    """Whether `lora-bench import` brings the run's own file back bit for bit."""


def export_run(trained: TrainedRun, out: Path, *, with_base: bool = False, tell: Tell = silent) -> ExportReport:
    """Writes the adapter folder; `with_base` writes the base model into it as well.

    Raises:
        UsageError: If `out` is not free.
        ArtifactError: If the run has no PEFT adapter, or PEFT's outputs are not those of the run.
    """
    out = check_out(out)
    check_exportable(trained, with_base=with_base)
    base = base_reference(trained, out, with_base=with_base)
    tell("loading the base and what the run trained")
    adapted = load_adapted(trained)
    unfuse(adapted.net)  # The reference is PEFT's own forward, whose roundings differ from ours.
    with written_folder(out, made_by="export", runs=[(trained, 1.0)]) as folder:
        tell(f"writing {out}")
        num_joined = _write_adapter(trained, adapted, folder, base=base)
        plain = write_base(trained, folder, with_base=with_base)
        text = f"Exported by `lora-bench export` from the run `{trained.name}`; its record is in `{RECORD_FOLDER}/`."
        text += tied_text([trained], plain)
        write_card(trained, folder, out=out, base=base, text=text, pad_token_id=plain.config.pad_token_id)
        advice = f"method={trained.config.method.name} changes more than its adapter holds; use lora-bench merge"
        tell("trying it with PEFT")
        agreement = try_adapter(folder, plain, _expected(adapted), advice=advice)
        _write_record(trained, folder)
        is_restorable = can_restore(folder)
    return ExportReport(
        folder=str(out),
        base=base,
        num_bytes=directory_bytes(out),
        num_joined=num_joined,
        difference=agreement.difference,
        fp32_difference=agreement.fp32_difference,
        is_restorable=is_restorable,
    )


def _expected(adapted: Adapted) -> Expected:
    """Of the run's network, which is left in fp32."""
    batch = probe_batch(adapted.net)
    own = logits(adapted.net, batch)
    return Expected(batch, own, logits(cast_parameters(adapted.net, torch.float32), batch))


def _write_adapter(trained: TrainedRun, adapted: Adapted, folder: Path, *, base: str) -> int:
    """The adapter's two files; returns how many fused matrices were joined."""
    splits = split_modules(adapted.net)
    if splits:
        joined = read_low_rank(trained, adapted)
        write_low_rank(joined, folder, plain=load_base(trained), kind=trained.kind, base=base)
        return len(set(joined.factors) & set(splits))
    shutil.copyfile(trained.weights / ADAPTER_FILE, folder / ADAPTER_FILE)
    config = json.loads((trained.weights / PEFT_CONFIG_FILE).read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": base, "revision": trained.config.model.revision}
    (folder / PEFT_CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    return 0


def _write_record(trained: TrainedRun, folder: Path) -> None:
    record = folder / RECORD_FOLDER
    record.mkdir()
    for name in RECORDED:
        if (trained.run.path / name).is_file():
            shutil.copyfile(trained.run.path / name, record / name)
    config = find_adapter_config(trained.weights)
    assert config is not None, "check_adapter has seen it"
    shutil.copyfile(config, record / config.name)
    write_manifest(trained.weights, record / WEIGHTS_LIST)
