"""What `lora-bench export` writes, looked at without torch before it is brought back."""

from __future__ import annotations

import os
from pathlib import Path

from lora_bench.artifacts.folder import ORIGIN_FILE
from lora_bench.artifacts.trained import ADAPTER_FILE
from lora_bench.config.bounds import bound_faults
from lora_bench.config.resolve import from_yaml
from lora_bench.diskpaths import reading_problem, writing_problem
from lora_bench.errors import ArtifactError, ConfigError, ModelError, RecordError, UsageError
from lora_bench.manifest import MANIFEST_FILE, find_change
from lora_bench.models.folders import PICKLES, read_header
from lora_bench.reading import read_json
from lora_bench.rundir import PEFT_CONFIG_FILE, RunDir, find_adapter_config
from lora_bench.shapes import is_folder_name, name_problem

RECORD_FOLDER = "record"
"""Of the run, beside its exported adapter."""
RECORDED = ("config.yaml", "result.json", "metrics.jsonl")
"""What is exported of a run directory; predictions hold a user's texts and stay."""
WEIGHTS_LIST = "weights.json"
"""The manifest of the run's own weights folder: what an import has to arrive at."""
CODE_KEYS = ("auto_mapping", "auto_map", "megatron_config", "megatron_core")
"""Entries of an adapter's configuration that have PEFT import a module by its name."""
DTYPES = ("F32", "BF16", "F16")
"""Of an adapter's tensors, as safetensors calls them."""


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
        name = origin["runs"][0]["name"]
    except (OSError, RecordError, ValueError, LookupError, TypeError) as err:
        raise ArtifactError(
            f"{folder}: {MANIFEST_FILE} or {ORIGIN_FILE} is damaged ({err}); export the run again"
        ) from err
    if change is not None:
        raise ArtifactError(f"{folder}: {change}: not what was exported; export the run again")
    if not isinstance(name, str) or not is_folder_name(name):
        raise ArtifactError(f"{folder}: {ORIGIN_FILE} names a run outside the root ({str(name)[:60]!r})")
    _check_adapter(folder)
    _check_record(folder / RECORD_FOLDER)
    path = imported_path(root, name)
    if os.path.lexists(path):
        raise UsageError(f"{path}: is recorded already and is never overwritten; choose another --root to compare them")
    if (problem := writing_problem(path)) is not None:
        raise UsageError(f"--root: {problem}")
    return name


def _check_adapter(folder: Path) -> None:
    """Look at what is there in place of tensors, and at what would have code run.

    Raises:
        ArtifactError: If the file of the adapter is none, or a pickle lies beside it, or a configuration names code.
    """
    record = folder / RECORD_FOLDER
    pickles = sorted(path for place in (folder, record) for pattern in PICKLES for path in place.glob(pattern))
    if pickles:
        raise ArtifactError(
            f"{folder}: holds {pickles[0].name}, and a pickle runs code when it is read; no export has one, so nothing "
            f"was imported"
        )
    try:
        header = read_header(folder / ADAPTER_FILE)
    except ModelError as err:
        raise ArtifactError(f"{str(err).rpartition(';')[0]}; export the run again") from err
    if not header:
        raise ArtifactError(f"{folder / ADAPTER_FILE}: holds no tensor; export the run again")
    for name, entry in header.items():
        if entry.get("dtype") not in DTYPES:
            raise ArtifactError(
                f"{folder / ADAPTER_FILE}: '{name[:60]}' is in {str(entry.get('dtype'))[:20]!r}, and a run trains in "
                f"{', '.join(DTYPES)}; export the run again"
            )
    for place in (folder, record):
        path = find_adapter_config(place)
        config = read_json(path) if path is not None else {}
        named = [key for key in CODE_KEYS if config.get(key) not in (None, {}, "megatron.core")]
        if named:
            raise ArtifactError(f"{path}: '{named[0]}' names code, which no export does; nothing was imported")


def _check_record(record: Path) -> None:
    """Read what will be the run's own files, under the names that the user knows.

    Raises:
        RecordError: If one is damaged.
        ArtifactError: If the configuration is none that a run has.
    """
    run = RunDir(record)
    config = run.read_config()
    if run.read_result() is None:
        raise ArtifactError(f"{run.result}: is not there; export the run again")
    run.read_metrics()
    read_json(record / WEIGHTS_LIST)
    problems = [problem for group in ("model", "task") if (problem := name_problem(config[group]["name"]))]
    if "${" in run.config.read_text(encoding="utf-8"):
        problems.append("it refers to values outside of it (${...})")
    if not problems:
        try:
            problems += [str(fault) for fault in bound_faults(from_yaml(run.config))]
        except ConfigError as err:
            problems += [str(fault) for fault in err.faults]
    if problems:
        raise ArtifactError(f"{run.config}: is no configuration of a run ({problems[0]}); export the run again")


def imported_path(root: Path, name: str) -> Path:
    """Return where the run of an export goes."""
    return (root / "runs" / name).absolute()
