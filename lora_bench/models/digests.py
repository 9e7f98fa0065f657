"""Digests of weights: what provenance records and conversions are named by; needs no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from lora_bench.config.schema import ModelConfig, Source
from lora_bench.manifest import file_digest
from lora_bench.models.catalog import GGUF, locate
from lora_bench.models.folders import weight_files

RANDOM_FORMAT = 1
"""Raised when random weights of the same architecture come out otherwise than before."""


def weights_digest(model: ModelConfig, *, cache: Path) -> str:
    """Identifies the pretrained weights, whatever dtype they are loaded in.

    `sha256:` and the digest of the file as it was published (the GGUF, not its conversion), or of the lines
    that `sha256sum` prints where there are several files. Random weights follow from their architecture:
    `random:` and the digest of its numbers.

    Raises:
        ModelError: If there are no weights.
    """
    if model.source is Source.random:
        numbers = json.dumps({"format": RANDOM_FORMAT, **model.architecture}, sort_keys=True)
        return f"random:{hashlib.sha256(numbers.encode()).hexdigest()}"
    path = locate(model)
    files = [path] if path.suffix == GGUF else weight_files(path)
    digests = {file.name: file_digest(file, cache=cache) for file in files}
    if len(digests) == 1:
        return f"sha256:{digests.popitem()[1]}"
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
