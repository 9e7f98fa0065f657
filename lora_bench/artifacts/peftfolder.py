"""What every folder in PEFT's format needs beside its adapter: a base that can be loaded, a card, and a trial of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from lora_bench.artifacts.folder import write_model
from lora_bench.artifacts.merge import EXACT, auto_class, read_model
from lora_bench.artifacts.network import cast_parameters, load_base, load_run_tokenizer, logits, relative_difference
from lora_bench.artifacts.trained import TrainedRun
from lora_bench.config.schema import Source
from lora_bench.errors import ArtifactError
from lora_bench.methods.quiet import quiet_peft
from lora_bench.models.catalog import GGUF, locate
from lora_bench.models.convert import converted_weights
from lora_bench.models.load import TORCH_DTYPES
from lora_bench.placing import needs_untied

BASE_FOLDER = "base"


@dataclass(frozen=True)
class Expected:
    """Logits that PEFT has to give."""

    batch: Mapping[str, Tensor]
    trained: Tensor
    """In the dtype of the training."""
    fp32: Tensor


@dataclass(frozen=True)
class Agreement:
    """How far PEFT's logits are from the expected ones, as parts of the largest."""

    difference: float
    """In the dtype of the training; 0 is bit for bit."""
    fp32_difference: float


def base_reference(trained: TrainedRun, out: Path, *, with_base: bool) -> str:
    """What `from_pretrained` takes for the base: a folder on this machine, or a repository of the hub."""
    if with_base:
        return str(out / BASE_FOLDER)
    model = trained.config.model
    if model.source is Source.hub:
        return str(model.hub_id)
    path = locate(model)
    return str((converted_weights(path, cache=trained.cache) if path.suffix == GGUF else path).resolve())


def write_base(trained: TrainedRun, folder: Path, *, with_base: bool) -> PreTrainedModel:
    """The base as the user of the folder will load it; written into the folder first where that is asked for.

    The tokenizer goes to the base and not beside the adapter, where PEFT's Auto classes would take it as a reason
    to resize the embeddings.
    """
    plain = load_base(trained)
    if not with_base:
        return plain
    write_model(plain, load_run_tokenizer(trained), folder / BASE_FOLDER)
    return read_model(folder / BASE_FOLDER, trained.kind)


def try_adapter(folder: Path, plain: PreTrainedModel, expected: Expected, *, advice: str) -> Agreement:
    """Loads the folder with `PeftModel.from_pretrained` onto `plain`, which it uses up, and compares the outputs.

    Raises:
        ArtifactError: If they differ by more than rounding; `advice` says what to do.
    """
    with quiet_peft():
        loaded = PeftModel.from_pretrained(plain, str(folder)).eval()
    difference = relative_difference(logits(loaded, expected.batch), expected.trained)
    fp32_logits = logits(cast_parameters(loaded, torch.float32), expected.batch)
    fp32_difference = relative_difference(fp32_logits, expected.fp32)
    if not fp32_difference <= EXACT:
        raise ArtifactError(
            f"what PeftModel.from_pretrained makes of the adapter differs by {fp32_difference:.1g} of the largest "
            f"logit in fp32, where {EXACT:.0e} is rounding; nothing was written; {advice}"
        )
    return Agreement(difference, fp32_difference)


def tied_text(runs: Sequence[TrainedRun], plain: PreTrainedModel) -> str:
    """What whoever merges with PEFT has to know of adapters on one end of a base that shares its table; else empty."""
    if not plain.config.tie_word_embeddings or not any(needs_untied(trained.config) for trained in runs):
        return ""
    return (
        " Embeddings and unembedding are one table in the base and have changes of their own here: `lora-bench merge` "
        "gives each its own, and PEFT's merge would add both changes to both."
    )


def write_card(trained: TrainedRun, folder: Path, *, out: Path, base: str, text: str, pad_token_id: int | None) -> None:
    """How to load the folder, in the place where a model card is looked for."""
    auto = auto_class(trained).__name__
    dtype = str(TORCH_DTYPES[trained.dtype]).removeprefix("torch.")
    options = f", num_labels={trained.num_labels}" if trained.num_labels else ""
    lines = [
        f"---\nbase_model: {base}\nlibrary_name: peft\n---\n",
        f"{text}\n",
        "```python",
        "from peft import PeftModel",
        f"from transformers import {auto}\n",
        f'base = {auto}.from_pretrained({json.dumps(base)}{options}, dtype="{dtype}")',
        *([f"base.config.pad_token_id = {pad_token_id}"] if trained.num_labels else []),
        f"model = PeftModel.from_pretrained(base, {json.dumps(str(out))}).eval()",
        "```\n",
    ]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")
