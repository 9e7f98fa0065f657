"""What a folder of weights must hold, found out without torch and without reading the weights."""

from __future__ import annotations

import functools
import json
import struct
from pathlib import Path
from typing import Any

from lora_bench.diskpaths import reading_problem, writing_problem
from lora_bench.errors import ModelError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")
MAX_HEADER_BYTES = 100_000_000
"""As in safetensors itself (0.6, `MAX_HEADER_SIZE`)."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", "spm.model", "sentencepiece.bpe.model")


def read_config(folder: Path) -> dict[str, Any]:
    """The content of `config.json`.

    Raises:
        ModelError: If it is missing or not a JSON object.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise ModelError(f"{folder}: has no config.json, so it is not a model folder of transformers") from err
    except (OSError, ValueError, RecursionError) as err:
        raise ModelError(f"{path}: cannot be read ({err}); fetch or save the model again") from err
    if not isinstance(config, dict):
        raise ModelError(f"{path}: is not a JSON object; fetch or save the model again")
    return config


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, sorted by name: one, or those that its index names.

    Raises:
        ModelError: If there are none, or one of them is missing or cut short.
    """
    index = folder / INDEX
    if (folder / WEIGHTS).is_file():
        files = [folder / WEIGHTS]
    elif index.is_file():
        files = _read_index(index)
    else:
        raise ModelError(_explain_absence(folder))
    for file in files:
        read_header(file)
    return files


def check_folder(folder: Path) -> None:
    """Looks for everything that a load needs: configuration, weights and a tokenizer.

    Raises:
        ModelError: For the first thing that is missing or damaged.
    """
    if (problem := reading_problem(folder)) is not None:
        raise ModelError(problem)
    if (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file():
        raise ModelError(_explain_adapter(folder))
    read_config(folder)
    weight_files(folder)
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise ModelError(f"{folder}: has no tokenizer ({', '.join(TOKENIZERS)}); save it beside the weights")


def _read_index(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as err:
        raise ModelError(f"{index}: is damaged ({err}); fetch or save the model again") from err
    outside = sorted(name for name in names if Path(name).name != name)
    if outside:
        raise ModelError(f"{index}: names files outside its folder ({', '.join(outside)})")
    return [index.parent / name for name in sorted(names)]


def _explain_adapter(folder: Path) -> str:
    """What an adapter is, and which model it stands on where its configuration says so."""
    try:
        base = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, LookupError, TypeError):
        base = None
    named = f", {base}" if isinstance(base, str) and base else ""
    return (
        f"{folder}: holds an adapter, not a model, and nothing is trained upon it; give the folder of its base "
        f"model{named}, or make one model of both: `lora-bench merge` of the run, or PEFT's merge_and_unload"
    )


def tokenizer_size(folder: Path) -> int | None:
    """Return how many numbers a model folder's tokenizer gives, added tokens left out; None if no file says so.

    Added tokens may have numbers that no text leads to; the tokens of the texts themselves are checked before training.
    """
    try:
        path = next(path for name in _VOCABULARIES if (path := folder / name).is_file())
        return _vocabulary_size(path, path.stat().st_mtime_ns)
    except (StopIteration, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


@functools.lru_cache(maxsize=16)
def _vocabulary_size(path: Path, changed_ns: int) -> int | None:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".txt":
        return len(text.splitlines())
    data = json.loads(text)
    vocabulary = data if path.name == "vocab.json" else data["model"]["vocab"]
    return max(vocabulary.values()) + 1 if isinstance(vocabulary, dict) else len(vocabulary)


def _explain_absence(folder: Path) -> str:
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        return (
            f"{folder}: holds {', '.join(pickles)} but no {WEIGHTS}; a pickle runs code when it is read, so it is "
            f"refused; save the model again with save_pretrained, or take a revision that has safetensors"
        )
    if (folder / "adapter_model.safetensors").is_file():
        return _explain_adapter(folder)
    return f"{folder}: has neither {WEIGHTS} nor {INDEX}"


def read_header(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file by name, with `dtype` and `shape`; no tensor is read.

    Raises:
        ModelError: If it is no such file, or its length is not what its header says: a download that was cut short.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size, MAX_HEADER_BYTES):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header: dict[str, Any] = json.loads(file.read(length))
        header.pop("__metadata__", None)
        ends = [_end_of(name, entry) for name, entry in header.items()]
        expected = 8 + length + max(ends, default=0)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, struct.error) as err:
        raise ModelError(f"{path}: is missing or no safetensors file ({err}); fetch or save the model again") from err
    if size != expected:
        raise ModelError(f"{path}: has {size} bytes, its header says {expected}; fetch or save the model again")
    return header


def _end_of(name: str, entry: Any) -> int:
    """Where a tensor's bytes end; raises a ValueError if a header's entry is not one of a tensor."""
    shape, offsets = (entry.get(key) if isinstance(entry, dict) else None for key in ("shape", "data_offsets"))
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise ValueError(f"'{name[:60]}' is no tensor")
    if not all(type(number) is int and 0 <= number < 2**63 for number in (*shape, *offsets)):
        raise ValueError(f"'{name[:60]}' has no shape")
    return int(offsets[1])


def is_writable(folder: Path) -> bool:
    """Whether this folder can be written, or made where it is not there yet."""
    return writing_problem(folder) is None
