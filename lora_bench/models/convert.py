"""Turns a GGUF file into a safetensors folder, once per machine.

transformers reads GGUF (about 15 s for SmolLM2-135M) and refuses to save it again. So the file is dequantised
into a folder of the cache: filled under another name, renamed when whole, guarded by a lock between
processes, and described by a manifest of digests that every later load looks at.

Weights are stored in fp32, as dequantising gives them: a Q4_1 value is scale * q + minimum of two fp16 numbers,
which neither bf16 nor fp16 can hold, and a run in fp32 must get the numbers that the GGUF file stands for.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lora_bench.errors import ModelError
from lora_bench.manifest import file_digest
from lora_bench.models.quiet import quiet
from lora_bench.rundir import TEMPORARY_MARK, filled_folder, write_json

FORMAT = 1
"""Raised when a conversion writes something else than before; older folders are then left alone."""
MANIFEST = "manifest.json"


def converted_weights(gguf: Path, *, cache: Path) -> Path:
    """The safetensors folder of a GGUF file, tokenizer included; converts it where the cache lacks it.

    Raises:
        ModelError: If the file cannot be read as GGUF or the cache cannot be written.
    """

    def fill(folder: Path) -> None:
        for file in converted_tokenizer(gguf, cache=cache).iterdir():
            if file.name != MANIFEST:
                shutil.copyfile(file, folder / file.name)
        _write_weights(gguf, folder)

    return _convert(gguf, cache=cache, what="weights", about_s=15, fill=fill)


def converted_tokenizer(gguf: Path, *, cache: Path) -> Path:
    """The tokenizer of a GGUF file as a folder; converts it where the cache lacks it.

    Raises:
        ModelError: If the file cannot be read as GGUF or the cache cannot be written.
    """
    return _convert(gguf, cache=cache, what="tokenizer", about_s=5, fill=lambda folder: _write_tokenizer(gguf, folder))


def is_intact(folder: Path) -> bool:
    """Whether a converted folder is whole, by its manifest.

    Cheap: a file of the size and time that the manifest recorded is taken as unchanged; one with another time
    is hashed.
    """
    entries = _read_manifest(folder)
    return entries is not None and all(_is_unchanged(folder / name, entry) for name, entry in entries.items())


def damaged_files(folder: Path) -> list[str]:
    """The files of a converted folder that are missing or whose digest differs; hashes every file."""
    entries = _read_manifest(folder)
    if entries is None:
        return [MANIFEST]
    return [name for name, entry in entries.items() if not _has_digest(folder / name, entry)]


def _convert(gguf: Path, *, cache: Path, what: str, about_s: int, fill: Callable[[Path], None]) -> Path:
    source_digest = file_digest(gguf, cache=cache)
    folder = cache / what / f"{gguf.stem}-{source_digest[:12]}-v{FORMAT}"
    if _is_made_from(folder, source_digest):
        return folder
    try:
        with _locked(folder):
            if _is_made_from(folder, source_digest):  # Another process converted it while this one waited.
                return folder
            state = "is damaged: converting again" if folder.exists() else "is not there yet: converting"
            print(
                f"{what.capitalize()} of {gguf.name}: {folder} {state}, once, about {about_s} s",
                file=sys.stderr,
                flush=True,
            )
            for leftover in (folder, *folder.parent.glob(f"{folder.name}{TEMPORARY_MARK}*")):
                shutil.rmtree(leftover, ignore_errors=True)
            with filled_folder(folder) as partial:
                fill(partial)
                _write_manifest(partial, source={"name": gguf.name, "sha256": source_digest})
    except OSError as err:
        raise ModelError(f"{folder}: cannot be written ({err}); set paths.cache to a folder with 600 MB free") from err
    return folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder.with_name(f"{folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write_weights(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    # The bar of the GGUF reader asks nobody whether it is wanted; errors still raise.
    with quiet(), _explained(gguf), open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        net = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # save_pretrained refuses a model that calls itself quantised; it no longer is.
    net.hf_quantizer = None
    del net.config.quantization_config
    with quiet():
        net.save_pretrained(folder)


def _write_tokenizer(gguf: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    with quiet(), _explained(gguf):
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def _explained(gguf: Path) -> Iterator[None]:
    try:
        yield
    except ImportError as err:
        raise ModelError(f"{gguf.name} needs the package gguf to be read ({err}); run: pip install gguf") from err
    except (OSError, ValueError, KeyError, IndexError) as err:
        raise ModelError(f"{gguf}: cannot be read as GGUF ({err}); install or fetch the file again") from err


def _write_manifest(folder: Path, *, source: dict[str, str]) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        state = path.stat()
        digest = file_digest(path, cache=None)
        files[path.name] = {"size": state.st_size, "mtime_ns": state.st_mtime_ns, "sha256": digest}
    write_json(folder / MANIFEST, {"format": FORMAT, "source": source, "files": files})


def _is_made_from(folder: Path, source_digest: str) -> bool:
    """Whether it is whole and of this file: its name has but the beginning of the digest."""
    try:
        source = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["source"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(source, dict) and source.get("sha256") == source_digest and is_intact(folder)


def _read_manifest(folder: Path) -> dict[str, dict[str, Any]] | None:
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return files if isinstance(files, dict) and files else None


def _is_unchanged(path: Path, entry: dict[str, Any]) -> bool:
    try:
        state = path.stat()
    except OSError:
        return False
    if state.st_size != entry["size"]:
        return False
    return state.st_mtime_ns == entry["mtime_ns"] or _has_digest(path, entry)


def _has_digest(path: Path, entry: dict[str, Any]) -> bool:
    return path.is_file() and file_digest(path, cache=None) == entry["sha256"]
