"""What a folder held when it was written: `manifest.json` with the SHA-256 of its tensors and its JSON files.

It finds files that were damaged, cut short or exchanged. It is no signature: whoever changes a file on purpose can
change the manifest as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path

from lora_bench.errors import RecordError
from lora_bench.reading import read_json
from lora_bench.rundir import write_json

MANIFEST_FILE = "manifest.json"
_COVERED = (".json", ".safetensors")
"""What decides about numbers; a model card may be edited."""


def write_manifest(folder: Path, path: Path | None = None) -> None:
    """Lists every file of the folder that it covers, in `path` or in the folder; called when all are written."""
    digests = {name: sha256(folder / name) for name in _covered_files(folder)}
    (path or folder / MANIFEST_FILE).write_text(json.dumps(digests, indent=1), encoding="utf-8")


def find_change(folder: Path, path: Path | None = None) -> str | None:
    """The first file that is not as the list in `path` or in the folder says, and what is wrong; None if all are.

    Raises:
        OSError: If there is no manifest, or a file cannot be read.
        ValueError: If the manifest itself is damaged.
    """
    try:
        digests = read_json(path or folder / MANIFEST_FILE)
    except RecordError as err:
        raise ValueError(str(err)) from err
    files = _covered_files(folder)
    for name in files:
        if name not in digests:
            return f"{name} was not there"
    for name, digest in digests.items():
        if name not in files:
            return f"{name} is missing"
        if sha256(folder / name) != digest:
            return f"{name} does not match its digest"
    return None


def sha256(path: Path) -> str:
    """Of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digest(path: Path, *, cache: Path | None) -> str:
    """Return the SHA-256 of a file, in hex, remembered in `cache` for as long as its size and time stay the same."""
    real = path.resolve()
    if real.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", real.name):
        return real.name  # The hub's cache names large files by their SHA-256 and checks it on download.
    state = real.stat()
    known = {"path": str(real), "size": state.st_size, "mtime_ns": state.st_mtime_ns}
    memo = cache and cache / "digests" / f"{hashlib.sha256(os.fsencode(real)).hexdigest()[:16]}.json"
    if memo:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            entry = json.loads(memo.read_text(encoding="utf-8"))
            if {key: entry.get(key) for key in known} == known:
                return str(entry["sha256"])
    digest = sha256(real)
    if memo:
        # A folder that cannot be written only costs the time of hashing again.
        with contextlib.suppress(OSError, ValueError):
            write_json(memo, {**known, "sha256": digest})
    return digest


def _covered_files(folder: Path) -> list[str]:
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix in _COVERED and path.is_file() and path.name != MANIFEST_FILE
    )
