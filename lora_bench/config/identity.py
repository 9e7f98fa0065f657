"""What a run's data and weights are, as opposed to where they lie: a path decides nothing about a run's identity."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from lora_bench.config.columns import recognise
from lora_bench.config.schema import FilesConfig
from lora_bench.manifest import file_digest
from lora_bench.tables import glance

CONTENT_MARK = "sha256:"
"""Before digests of content. Records of earlier versions have bare digests, and the paths stay part of their names."""

PLACES = {"task": (("train", "validation", "eval"), "content_digest"), "model": (("folder",), "folder_digest")}
"""Of groups: keys that say where something lies, and the key that says what it is."""

_OF_MODEL = (".json", ".safetensors", ".txt", ".model", ".jinja")
"""Endings of the files of a model folder that decide about tokens and numbers."""


def without_places(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a plain configuration without the paths of what it has a digest of the content of."""
    kept = dict(plain)
    for group, (paths, digest) in PLACES.items():
        values = kept.get(group)
        if isinstance(values, dict) and str(values.get(digest)).startswith(CONTENT_MARK):
            kept[group] = {key: value for key, value in values.items() if key not in paths}
    return kept


def settle_files(task: FilesConfig) -> None:
    """Fill in what the files say: their digest, and the columns of a generation task, which decide about the head.

    The digest stays None while a file cannot be read; loading the task says why.
    """
    looks = {split: glance(file or "", separator=task.separator) for split, file in task.files.items()}
    train = looks["train"]
    if train is not None and task.header is not False:
        for field, name in recognise(train.first, task.columns).items():
            setattr(task, field, name)
    digests = {split: look.digest for split, look in looks.items() if look is not None}
    task.content_digest = files_digest(digests) if len(digests) == len(looks) else None


def files_digest(digests: dict[str, str]) -> str:
    """Return the digest of a task's files, from that of each (`Table.digest`) by split."""
    return f"{CONTENT_MARK}{hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest()}"


def folder_digest(folder: str, *, cache: Path) -> str | None:
    """Return a digest of the files of a model folder, by name and content; None while it cannot be read.

    Args:
        folder: What the user gave; `~` is expanded.
        cache: Where the digests of large files are remembered for as long as size and time stay the same.
    """
    try:
        files = sorted(path for path in Path(folder).expanduser().iterdir() if path.suffix in _OF_MODEL)
        listed = [(path.name, file_digest(path, cache=cache)) for path in files if path.is_file()]
    except (OSError, ValueError):
        return None
    return f"{CONTENT_MARK}{hashlib.sha256(json.dumps(listed).encode()).hexdigest()}"
