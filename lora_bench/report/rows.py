"""A row of the table: one configuration, over its seeds."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lora_bench.records import RunResult, Score
from lora_bench.report.load import Record, flat
from lora_bench.report.statistics import Estimate, mean_interval

COMPARED_GROUPS = ("method", "placement", "lora", "training", "processes")
"""Groups of the configuration that tell rows apart."""
ALWAYS_SHOWN = ("method.name", "placement.name", "lora.r", "training.lr", "processes.name", "processes.count")
"""Have their own place in a row's label."""
NEVER_SHOWN = ("method.default_lr", "placement.roles")
"""Follow from those."""
NEVER_COMPARED = ("nodes", "max_restarts", "timeout_s", "resume_from")
"""How the processes of a run were kept going: `config.processes.HOW_ONLY`, which is in no digest either."""

METHOD_LABELS = {
    "full": "full fine-tuning",
    "bitfit": "BitFit",
    "top_layers": "top layers",
    "lora": "LoRA",
    "rslora": "rsLoRA",
    "lora_plus": "LoRA+",
    "lora_fa": "LoRA-FA",
    "dora": "DoRA",
    "pissa": "PiSSA",
    "olora": "OLoRA",
    "adalora": "AdaLoRA",
    "eva": "EVA",
    "vera": "VeRA",
    "ia3": "(IA)³",
    "qlora": "QLoRA",
    "loftq": "LoftQ",
    "prefix_embed": "prefix, embeddings",
    "prefix_layer": "prefix, every layer",
    "lora_prefix_embed": "LoRA + prefix, embeddings",
    "lora_prefix_layer": "LoRA + prefix, every layer",
    "adapter_h": "adapters (Houlsby)",
    "adapter_l": "adapters (Lin)",
    "adapter_p": "adapters (Pfeiffer)",
    "adapter_d": "adapters (AdapterDrop)",
}
"""What a method is called for people; its own name where nothing stands here."""

COSTS: dict[str, Callable[[RunResult], float | None]] = {
    "trainable_parameters": lambda result: result.sizes.trainable_parameters if result.sizes else None,
    "peak_training_bytes": lambda result: result.memory.peak_tensor_bytes if result.memory else None,
    "checkpoint_bytes": lambda result: result.sizes.weights_bytes if result.sizes else None,
    "bytes_per_trained_number": lambda result: _bytes_each(result),
    "step_median_ms": lambda result: result.timing.step_median_ms if result.timing else None,
}
"""What a row costs -> where a result has it."""


@dataclass(frozen=True)
class Row:
    """One configuration. Costs are means over the seeds that finished."""

    records: tuple[Record, ...]
    label: str
    settings: tuple[str, ...]
    """What the label does not say: placement, learning rate, and what else differs within the table."""
    is_baseline_method: bool
    quality: Estimate | None
    """One seed: its score with the interval over items. Several: mean over seeds with Student's interval."""
    costs: dict[str, float | None]
    choosing: float | None = None
    """Mean over the seeds of the score on validation items, by which settings are chosen; None if a finished run has
    none, as in records from before there were three splits."""

    @property
    def method(self) -> str:
        """Its name in the configuration."""
        return str(self.records[0].config["method"]["name"])

    @property
    def rate(self) -> float:
        """Its peak learning rate."""
        return float(self.records[0].config["training"]["lr"])

    @property
    def compared(self) -> dict[str, Any]:
        """The part of the configuration that tells it from other rows of its table."""
        return _compared(self.records[0])

    @property
    def is_validated(self) -> bool:
        """Whether validation items can choose it."""
        return self.choosing is not None

    @property
    def finished(self) -> tuple[Record, ...]:
        """The runs that have a score."""
        return tuple(record for record in self.records if record.state == "finished")

    @property
    def detail(self) -> str:
        """Settings and seeds in one line."""
        seeds = f"{len(self.records)} seeds" if len(self.records) > 1 else f"seed {self.seeds[0]}"
        return ", ".join([*self.settings, seeds])

    @property
    def seeds(self) -> list[int]:
        """Of all runs."""
        return sorted(record.seed for record in self.records)

    @property
    def trouble(self) -> str:
        """What became of the runs that did not finish, or an empty text."""
        counts = Counter(record.state for record in self.records if record.state != "finished")
        if len(self.records) == 1:
            return next((f"{state} at step {_steps(self.records[0])}" for state in counts), "")
        return ", ".join(f"{count} of {len(self.records)} {state}" for state, count in sorted(counts.items()))


def _bytes_each(result: RunResult) -> float | None:
    """Of the checkpoint, for each trained number: an adapter in fp32 has 4 where a model in bf16 has 2."""
    sizes = result.sizes
    if sizes is None or sizes.weights_bytes is None or not sizes.trainable_parameters:
        return None
    return sizes.weights_bytes / sizes.trainable_parameters


def build_rows(records: Sequence[Record], *, baseline_method: str) -> list[Row]:
    """Runs of one table as rows: adapters by rank, the baseline's method last."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(json.dumps(_compared(record), sort_keys=True), []).append(record)
    members = [_newest_by_seed(group) for group in groups.values()]
    varied = _varied_keys([group[0] for group in members])
    rows = [_build_row(group, varied, baseline_method) for group in members]
    return sorted(rows, key=lambda row: (row.is_baseline_method, _order(row.records[0])))


def headline_score(record: Record) -> Score | None:
    """The score that stands for a run."""
    return record.result.score(record.result.headline) if record.result else None


def _build_row(records: Sequence[Record], varied: Sequence[str], baseline_method: str) -> Row:
    finished = [record for record in records if record.state == "finished"]
    config = flat(records[0].config)
    method = str(config["method.name"])
    rank = f" r={config['lora.r']}" if config.get("lora.r") is not None else ""
    settings = [str(config["placement.name"])] if config.get("placement.name") else []
    settings.append(f"lr {config['training.lr']:g}")
    if config.get("processes.name"):
        settings.append(f"{config['processes.name']} × {config['processes.count']}")
    settings += [f"{key.split('.')[-1]} {_plain(config[key])}" for key in varied if key in config]
    return Row(
        records=tuple(records),
        label=METHOD_LABELS.get(method, method) + rank,
        settings=tuple(settings),
        is_baseline_method=method == baseline_method,
        quality=_quality(finished),
        choosing=_choosing(finished),
        costs={
            name: _mean([read(record.result) for record in finished if record.result]) for name, read in COSTS.items()
        },
    )


def _quality(finished: Sequence[Record]) -> Estimate | None:
    scores = [score for score in map(headline_score, finished) if score is not None]
    if not scores:
        return None
    if len(scores) == 1:
        # An end that is not there (a mean of one item) is drawn as endless.
        low, high = scores[0].ci_low, scores[0].ci_high
        return Estimate(scores[0].value, -math.inf if low is None else low, math.inf if high is None else high)
    return mean_interval([score.value for score in scores])


def _choosing(finished: Sequence[Record]) -> float | None:
    results = [record.result for record in finished if record.result is not None]
    scores = [next((score for score in one.validation if score.name == one.headline), None) for one in results]
    known = [score.value for score in scores if score is not None]
    return sum(known) / len(known) if known and len(known) == len(results) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _compared(record: Record) -> dict[str, Any]:
    compared = {key: value for key, value in record.config.items() if key in COMPARED_GROUPS}
    if compared.get("processes"):
        kept = {key: value for key, value in compared["processes"].items() if key not in NEVER_COMPARED}
        compared["processes"] = kept
    return compared


def _newest_by_seed(records: Sequence[Record]) -> list[Record]:
    """A configuration that was trained again counts once: on one machine it says the same a second time."""
    newest = {record.seed: record for record in sorted(records, key=_created)}
    return [newest[seed] for seed in sorted(newest)]


def _created(record: Record) -> str:
    return record.result.provenance.created_at if record.result else ""


def _varied_keys(records: Sequence[Record]) -> list[str]:
    """Keys in which rows of one method differ and that no label shows yet."""
    by_method: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        config = flat(_compared(record))
        by_method.setdefault(str(config["method.name"]), []).append(config)
    varied = {
        key: None
        for configs in by_method.values()
        for key in configs[0]
        if len({json.dumps(config.get(key)) for config in configs}) > 1
    }
    return [key for key in varied if key not in (*ALWAYS_SHOWN, *NEVER_SHOWN)]


def _order(record: Record) -> tuple[Any, ...]:
    config = flat(record.config)
    return (
        str(config["method.name"]),
        config.get("lora.r") or 0,
        str(config.get("placement.name")),
        config["training.lr"],
        config.get("processes.name") or "",
        json.dumps(_compared(record), sort_keys=True),
    )


def _steps(record: Record) -> int:
    return record.result.steps if record.result else int(record.run.read_status().get("step", 0))


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
