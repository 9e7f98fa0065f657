"""Digests of weights: what provenance records and conversions are named by; needs no torch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from pathlib import Path

from lora_bench.config.schema import ModelConfig, Source
from lora_bench.models.catalog import GGUF, locate
from lora_bench.models.folders import weight_files
from lora_bench.rundir import write_json

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


def file_digest(path: Path, *, cache: Path | None) -> str:
    """SHA-256 of a file, in hex; remembered in `cache` for as long as its size and time stay the same."""
    real = path.resolve()
    if real.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", real.name):
        return real.name  # The hub's cache names large files by their SHA-256 and checks it on download.
    state = real.stat()
    known = {"path": str(real), "size": state.st_size, "mtime_ns": state.st_mtime_ns}
    memo = cache and cache / "digests" / f"{hashlib.sha256(str(real).encode()).hexdigest()[:16]}.json"
    if memo:
        with contextlib.suppress(OSError, ValueError):
            entry = json.loads(memo.read_text(encoding="utf-8"))
            if {key: entry.get(key) for key in known} == known:
                return str(entry["sha256"])
    with open(real, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if memo:
        # A folder that cannot be written only costs the time of hashing again.
        with contextlib.suppress(OSError):
            write_json(memo, {**known, "sha256": digest})
    return digest
