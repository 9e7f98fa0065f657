"""Brings an exported run back: its record as it was, and its weights in the layout that the run itself uses."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lora_bench.artifacts.exported import RECORD_FOLDER, RECORDED, WEIGHTS_LIST, check_export, imported_path
from lora_bench.artifacts.lowrank import LAYER_A, LAYER_B, PREFIX, Factors, divide_joined
from lora_bench.artifacts.telling import Tell, silent
from lora_bench.artifacts.trained import ADAPTER_FILE
from lora_bench.config.resolve import from_yaml
from lora_bench.config.schema import RunConfig, TaskKind
from lora_bench.errors import ArtifactError, LoraBenchError
from lora_bench.manifest import find_change, write_manifest
from lora_bench.models.load import TORCH_DTYPES, load_model
from lora_bench.models.split import SplitLinear
from lora_bench.placing import place
from lora_bench.rundir import RunDir, filled_folder, find_adapter_config


def import_run(folder: Path, root: Path, *, tell: Tell = silent) -> RunDir:
    """Writes the run directory that `folder` was exported from, below `root`; returns it.

    Raises:
        UsageError: If the folder is no export, or the run is there already.
        ArtifactError: If the export was changed, or the weights do not come back bit for bit.
        RecordError: If a file of its record is damaged.
    """
    path = imported_path(root, check_export(folder, root))
    with filled_folder(path) as partial:
        for file in RECORDED:
            if (folder / RECORD_FOLDER / file).is_file():
                shutil.copyfile(folder / RECORD_FOLDER / file, partial / file)
        run = RunDir(partial)
        weights = run.weights
        weights.mkdir()
        tell("bringing the weights back and comparing them")
        try:
            _restore_weights(folder, weights)
        except (KeyError, ValueError, RuntimeError, SafetensorError) as err:
            if isinstance(err, LoraBenchError):
                raise
            reason = next(iter(str(err).splitlines()), type(err).__name__)
            raise ArtifactError(
                f"{folder}: {ADAPTER_FILE} does not fit its record ({reason}); export it again"
            ) from err
        change = find_change(weights, folder / RECORD_FOLDER / WEIGHTS_LIST)
        if change is not None:
            raise ArtifactError(f"{folder}: the weights do not come back as the run wrote them ({change})")
        write_manifest(weights)
    return RunDir(path)


def can_restore(folder: Path) -> bool:
    """Whether the run's own weights come back from this export, bit for bit."""
    with tempfile.TemporaryDirectory() as place_for_weights:
        weights = Path(place_for_weights)
        _restore_weights(folder, weights)
        return find_change(weights, folder / RECORD_FOLDER / WEIGHTS_LIST) is None


def _restore_weights(folder: Path, weights: Path) -> None:
    record = folder / RECORD_FOLDER
    config = find_adapter_config(record)
    if config is None:
        raise ArtifactError(f"{record}: has no configuration of the run's adapter; export the run again")
    shutil.copyfile(config, weights / config.name)
    tensors = load_file(folder / ADAPTER_FILE)
    divided = _divide(tensors, from_yaml(record / "config.yaml"))
    if divided is None:
        shutil.copyfile(folder / ADAPTER_FILE, weights / ADAPTER_FILE)
    else:
        save_file(divided, weights / ADAPTER_FILE, metadata={"format": "pt"})


def _divide(tensors: dict[str, Tensor], config: RunConfig) -> dict[str, Tensor] | None:
    """The tensors on the matrices that the run splits; None if it splits none."""
    net = load_model(
        config.model,
        kind=config.task.kind,
        num_labels=2 if config.task.kind is TaskKind.classification else None,
        cache=Path(config.paths.cache).expanduser(),
        dtype=TORCH_DTYPES[config.training.dtype],
        seed=config.seed,
        dropout=None,
        pad_token_id=None,
        device="meta",  # Shapes alone say where roles lie.
    )
    targets = set(place(config, net).target_modules)
    splits = {name: module for name, module in net.named_modules() if isinstance(module, SplitLinear)}
    if not splits:
        return None
    divided = dict(tensors)
    for name, split in splits.items():
        a_RI, b_OR = divided.pop(f"{PREFIX}{name}{LAYER_A}"), divided.pop(f"{PREFIX}{name}{LAYER_B}")
        roles = [role for role in split.roles if f"{name}.{role}" in targets]
        for role, own in divide_joined(Factors(a_RI, b_OR, 1.0), split, roles).items():
            divided[f"{PREFIX}{name}.{role}{LAYER_A}"] = own.a_RI
            divided[f"{PREFIX}{name}.{role}{LAYER_B}"] = own.b_OR
    return divided
