"""A run that ended, as something to use: its configuration, its record and its weights, looked through.

Everything that can be wrong with a run directory is found here, without torch and before a network is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lora_bench.config.resolve import from_yaml
from lora_bench.config.schema import Dtype, RunConfig, Source, TaskKind
from lora_bench.errors import ArtifactError, ConfigError, DataError, ModelError
from lora_bench.manifest import MANIFEST_FILE, find_change
from lora_bench.models import read_architecture, weights_digest
from lora_bench.models.folders import PICKLES, read_header
from lora_bench.models.roles import FAMILIES, family_name
from lora_bench.preflight import cache_folder
from lora_bench.reading import read_json
from lora_bench.records import RunResult
from lora_bench.rundir import RunDir, find_adapter_config
from lora_bench.tasks import load_task

ADAPTER_FILE = "adapter_model.safetensors"
USABLE = ("finished", "pruned")
"""Statuses whose weights are of use: a pruned run ended early, and on purpose."""
AGAIN = "train it again with again=2, or bring the file back from a copy"
DEQUANTISE = "`lora-bench merge RUN --out DIR --dequantise` writes a whole model, no longer in four bits"
_HEAD_WEIGHTS = (".score.weight", ".classifier.weight", ".classifier.out_proj.weight")
"""The last matrix of a task head in every architecture of transformers that classifies."""


@dataclass(frozen=True)
class TrainedRun:
    """A run directory that was looked through by `open_run`."""

    run: RunDir
    config: RunConfig
    result: RunResult
    num_labels: int | None
    """Classes of its head; None for generation."""

    @property
    def name(self) -> str:
        """Of the directory."""
        return self.run.path.name

    @property
    def weights(self) -> Path:
        """What the method saved."""
        return self.run.weights

    @property
    def kind(self) -> TaskKind:
        """Which head it has."""
        return self.config.task.kind

    @property
    def dtype(self) -> Dtype:
        """Of the base weights in training."""
        return self.config.training.dtype

    @property
    def is_in_four_bits(self) -> bool:
        """Whether the method rounded its base."""
        return self.config.method.needs_bitsandbytes

    @property
    def base_digest(self) -> str:
        """Of the pretrained weights, as recorded."""
        return self.result.provenance.weights_digest

    @property
    def cache(self) -> Path:
        """Folder of converted weights."""
        return cache_folder(self.config)

    @property
    def peft_type(self) -> str | None:
        """PEFT's name for what was saved, such as `LORA`; None if that is no PEFT adapter, or an adapter and more."""
        path = find_adapter_config(self.weights)
        is_all = [file.name for file in self.weights.glob("*.safetensors")] == [ADAPTER_FILE]
        return str(read_json(path).get("peft_type")) if path and is_all else None

    @cached_property
    def labels(self) -> list[str] | None:
        """Names of the classes by index; None for generation, and where the task's data are gone or have changed."""
        if self.num_labels is None:
            return None
        try:
            data = load_task(self.config.task)
        except (ConfigError, DataError):
            return None
        return list(data.labels) if data.digest == self.result.provenance.data_digest else None


def open_run(run: RunDir) -> TrainedRun:
    """Reads a run and checks that it ended, that its weights are whole, and that its base is still the same.

    Raises:
        ArtifactError: If it did not end, or its weights are missing, damaged or a pickle, or the base has changed.
        RunDirError: If its files cannot be read.
        ModelError: If the weights of the base are not there.
    """
    run.read_config()
    config = from_yaml(run.config)
    result = _read_result(run)
    num_labels = _check_weights(run)
    trained = TrainedRun(run, config, result, num_labels if config.task.kind is TaskKind.classification else None)
    now = weights_digest(config.model, cache=trained.cache)
    if now != trained.base_digest:
        raise ArtifactError(
            f"{trained.name}: was trained on weights {_short(trained.base_digest)}, and model={config.model.name} "
            f"({config.model.source.value}) now has {_short(now)}; bring those weights back, or train it again"
        )
    return trained


def check_same_base(runs: Sequence[TrainedRun]) -> None:
    """Looks whether the runs stand on one base: weights, dtype and head.

    Raises:
        ArtifactError: If two of them differ.
    """
    first = runs[0]
    for other in runs[1:]:
        pair = f"{first.name} and {other.name}"
        if other.base_digest != first.base_digest:
            raise ArtifactError(
                f"{pair}: stand on different bases ({first.config.model.name} {_short(first.base_digest)}, "
                f"{other.config.model.name} {_short(other.base_digest)}); use runs of one model"
            )
        if other.dtype is not first.dtype:
            raise ArtifactError(
                f"{pair}: stand on one base in two dtypes ({first.dtype.value}, {other.dtype.value}), rounded apart; "
                f"train both with the same training.dtype"
            )
        if (other.kind, other.num_labels) != (first.kind, first.num_labels):
            raise ArtifactError(
                f"{pair}: have different heads ({_head_text(first)}, {_head_text(other)}); use runs of one task"
            )


def check_adapter(trained: TrainedRun) -> None:
    """Looks whether all that was trained is one PEFT adapter, on modules that PEFT knows.

    Raises:
        ArtifactError: If it is not, or if it fits no base that PEFT could load.
    """
    if trained.is_in_four_bits:
        raise ArtifactError(
            f"{trained.name}: {four_bit_text(trained)}, rounded by the run itself, and its adapter fits no other; "
            f"{DEQUANTISE}"
        )
    if trained.peft_type is None:
        raise ArtifactError(
            f"{trained.name}: what method={trained.config.method.name} trained is no PEFT adapter, or not that alone; "
            f"lora-bench merge writes it as a model folder if the method merges"
        )
    architecture, placement = read_architecture(trained.config.model), trained.config.placement
    family = FAMILIES.get(family_name(architecture))
    adapted = [role for role in placement.roles if role in family.expert_roles] if family and placement else []
    if adapted:
        raise ArtifactError(
            f"{trained.name}: its adapters of '{adapted[0]}' stand on single experts, which the plain architecture "
            f"keeps in one block, where PEFT has no place for them; lora-bench merge and compose write a model folder"
        )


def refuse_quantised(trained: TrainedRun) -> None:
    """Looks at the method and at the base's own configuration, before anything is loaded.

    Raises:
        ArtifactError: If the weights under the adapter are quantised.
    """
    if trained.is_in_four_bits:
        raise ArtifactError(
            f"{trained.name}: {four_bit_text(trained)}, and a sum W + BA that is rounded to them again loses most of "
            f"what was trained; {DEQUANTISE}, or use the run as it is"
        )
    refuse_quantised_base(trained)


def refuse_quantised_base(trained: TrainedRun) -> None:
    """Looks at the base's own configuration alone.

    Raises:
        ArtifactError: If its weights were quantised before the run had them.
    """
    is_read = trained.config.model.source is not Source.random
    if is_read and read_architecture(trained.config.model).get("quantization_config"):
        raise ArtifactError(quantised_text(trained))


def quantised_text(trained: TrainedRun) -> str:
    """Why nothing is merged into a quantised base, and what to do."""
    return (
        f"{trained.name}: its base is quantised; the sum W + BA would be rounded to a few bits again, which loses most "
        f"of what was trained; keep the adapter beside the base (lora-bench export), or train on unquantised weights"
    )


def four_bit_text(trained: TrainedRun) -> str:
    """What is special about such a run."""
    return f"method={trained.config.method.name} keeps its base in four bits"


def _read_result(run: RunDir) -> RunResult:
    result = run.read_result()
    if result is None:
        raise ArtifactError(f"{run.path.name}: is {run.state()} and has no result yet; the same run.py command ends it")
    if result.status not in USABLE:
        reason = f" ({result.error})" if result.error else ""
        raise ArtifactError(
            f"{run.path.name}: ended as {result.status}{reason}; only finished and pruned runs are used"
        )
    return result


def _check_weights(run: RunDir) -> int | None:
    """Looks at every file; returns the classes of the head, where there is one."""
    folder, name = run.weights, run.path.name
    if not folder.is_dir():
        raise ArtifactError(f"{name}: has no folder weights/; {AGAIN}")
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ArtifactError(
            f"{name}: weights/ holds {', '.join(pickles)}, and a pickle runs code when it is read; no run writes one, "
            f"so remove it"
        )
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ArtifactError(f"{name}: weights/ holds no adapter and no model (no .safetensors); {AGAIN}")
    try:
        shapes = {key: entry["shape"] for file in files for key, entry in read_header(file).items()}
        # Runs of older versions have none; then the lengths have to do.
        change = find_change(folder) if (folder / MANIFEST_FILE).is_file() else None
    except ModelError as err:
        raise ArtifactError(f"{name}: {str(err).rpartition(';')[0]}; {AGAIN}") from err
    except (OSError, ValueError) as err:
        raise ArtifactError(f"{name}: weights/{MANIFEST_FILE} cannot be read ({err}); {AGAIN}") from err
    if change is not None:
        raise ArtifactError(f"{name}: weights/{change}: not what the run wrote; {AGAIN}")
    heads = [shape[0] for key, shape in shapes.items() if f".{key}".endswith(_HEAD_WEIGHTS)]
    return int(heads[-1]) if heads else None


def _head_text(trained: TrainedRun) -> str:
    return "language model" if trained.num_labels is None else f"{trained.num_labels} classes"


def _short(digest: str) -> str:
    kind, _, value = digest.partition(":")
    return f"{kind}:{value[:12]}"
