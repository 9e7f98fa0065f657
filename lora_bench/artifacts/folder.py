"""The folder that a command writes: checked before anything is loaded, complete or not there at all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_bench.artifacts.trained import TrainedRun
from lora_bench.diskpaths import writing_problem
from lora_bench.errors import UsageError
from lora_bench.manifest import write_manifest
from lora_bench.measure import machine
from lora_bench.rundir import filled_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ORIGIN_FILE = "lora_bench.json"
"""Says which runs a folder was made of."""


def check_out(out: Path) -> Path:
    """The folder as an absolute path, known to be free and writable.

    Raises:
        UsageError: If it holds something, is a file or cannot be written.
    """
    folder = out.expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out: {folder} is a file; give a new folder")
    if folder.is_dir() and next(folder.iterdir(), None) is not None:
        raise UsageError(f"--out: {folder} is not empty, and nothing is overwritten; give a new folder")
    if (problem := writing_problem(folder)) is not None:
        raise UsageError(f"--out: {problem}")
    return folder


@contextlib.contextmanager
def written_folder(
    out: Path, *, made_by: str, runs: Sequence[tuple[TrainedRun, float]], **facts: Any
) -> Iterator[Path]:
    """A folder to fill, which gets its name when the block ends well; where it comes from is written into it.

    Args:
        out: From `check_out`.
        made_by: The command.
        runs: What it is made of, each with its weight in the sum.
        facts: Further entries of the record.
    """
    with filled_folder(out) as folder:
        yield folder
        commit, is_dirty = machine.source_commit()
        origin = {
            "made_by": f"lora-bench {made_by}",
            "runs": [_describe(trained, weight) for trained, weight in runs],
            **facts,
            "commit": commit,
            "is_dirty": is_dirty,
            "versions": machine.library_versions(),
        }
        (folder / ORIGIN_FILE).write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
        write_manifest(folder)


def write_model(net: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """What `from_pretrained` reads: safetensors, configuration and tokenizer."""
    from lora_bench.models.quiet import quiet

    with quiet():
        net.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)


def _describe(trained: TrainedRun, weight: float) -> dict[str, Any]:
    return {
        "name": trained.name,
        "weight": weight,
        "config_digest": trained.result.config_digest,
        "base": trained.config.model.name,
        "base_digest": trained.base_digest,
    }
