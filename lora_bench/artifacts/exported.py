"""What `lora-bench export` writes, looked at without torch before it is brought back."""

from __future__ import annotations

from pathlib import Path

from lora_bench.artifacts.folder import ORIGIN_FILE
from lora_bench.diskpaths import reading_problem
from lora_bench.errors import ArtifactError, RecordError, UsageError
from lora_bench.manifest import MANIFEST_FILE, find_change
from lora_bench.reading import read_json
from lora_bench.rundir import PEFT_CONFIG_FILE
from lora_bench.shapes import is_folder_name

RECORD_FOLDER = "record"
"""Of the run, beside its exported adapter."""
RECORDED = ("config.yaml", "result.json", "metrics.jsonl")
"""What is exported of a run directory; predictions hold a user's texts and stay."""
WEIGHTS_LIST = "weights.json"
"""The manifest of the run's own weights folder: what an import has to arrive at."""


def check_export(folder: Path, root: Path) -> str:
    """Look at the folder's files; return the name of the run.

    Raises:
        UsageError: If the folder is no export, or the run is there already.
        ArtifactError: If the export was changed.
    """
    if (problem := reading_problem(folder)) is not None:
        raise UsageError(f"{problem}; give the folder that lora-bench export wrote")
    if not (folder / PEFT_CONFIG_FILE).is_file():
        raise UsageError(f"{folder}: is no adapter folder (it has no {PEFT_CONFIG_FILE})")
    if not (folder / ORIGIN_FILE).is_file() or not (folder / RECORD_FOLDER / WEIGHTS_LIST).is_file():
        raise UsageError(
            f"{folder}: was not written by lora-bench export, so nobody knows how it was trained and it cannot become "
            f"a run; PeftModel.from_pretrained reads it as it is"
        )
    try:
        change = find_change(folder)
        origin = read_json(folder / ORIGIN_FILE)
        name = str(origin["runs"][0]["name"])
    except (OSError, RecordError, ValueError, LookupError, TypeError) as err:
        raise ArtifactError(
            f"{folder}: {MANIFEST_FILE} or {ORIGIN_FILE} is damaged ({err}); export the run again"
        ) from err
    if change is not None:
        raise ArtifactError(f"{folder}: {change}: not what was exported; export the run again")
    if not is_folder_name(name):
        raise ArtifactError(f"{folder}: {ORIGIN_FILE} names a run outside the root ({name[:60]!r})")
    if (path := imported_path(root, name)).exists():
        raise UsageError(f"{path}: is recorded already and is never overwritten; choose another --root to compare them")
    return name


def imported_path(root: Path, name: str) -> Path:
    """Return where the run of an export goes."""
    return (root / "runs" / name).absolute()
