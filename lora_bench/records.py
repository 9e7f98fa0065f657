"""What reaches disk: frozen records, written as JSON into a run directory.

A record that was written by an older version loads as long as its fields are known; an unknown
field is an error, because silently dropping a measurement is worse than refusing it. Types are checked to the last
field, so that whoever has a record need not look again.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any, TypeVar

GIB = 2**30
"""Bytes in 1 GiB; the only place where this is said."""

STATUSES = ("finished", "diverged", "oom", "pruned", "failed")
"""Of a result, from good to bad."""

RecordT = TypeVar("RecordT")


class UnknownFieldError(ValueError):
    """A record has a field that this version does not know, so a newer one wrote it."""


@dataclass(frozen=True)
class Score:
    """One number about quality, with its 95 % confidence interval over the evaluated items."""

    name: str
    value: float
    ci_low: float | None
    ci_high: float | None
    """None where the interval has no end, as for the mean of a single item."""
    num_items: int
    higher_is_better: bool

    def interval_text(self, form: str = ".3f") -> str:
        """`[0.593, 0.721]`; an end that is not there is a dash."""
        low, high = ("–" if bound is None else format(bound, form) for bound in (self.ci_low, self.ci_high))
        return f"[{low}, {high}]"


@dataclass(frozen=True)
class MemoryProfile:
    """Bytes held during training steps, and the peaks of the process by phase.

    `peak_tensor_bytes` is the peak over one training step of all live tensor bytes, taken on the step with the largest
    padded batch; on CUDA it is `torch.cuda.max_memory_allocated` over all training steps. The parts are those of that
    step: weights, gradients after the backward pass (of the fp32 masters, where there are any), optimiser state with
    its masters, and activations, which are what the first forward pass keeps for its backward pass. Gradients appear as
    activations go, so the peak is below the sum. `None` is "not measured here".
    """

    peak_tensor_bytes: int
    weight_bytes: int | None
    gradient_bytes: int | None
    optimizer_bytes: int | None
    activation_bytes: int | None
    peak_train_rss_bytes: int | None = None
    peak_eval_rss_bytes: int | None = None
    rss_after_load_bytes: int | None = None
    peak_train_reserved_bytes: int | None = None
    peak_eval_allocated_bytes: int | None = None


@dataclass(frozen=True)
class GroupUse:
    """What the processes of one run held and took, each of them, the most, and in all."""

    name: str
    """The choice of `conf/processes/`."""
    count: int
    nodes: int
    transport: str
    """What carried sums between them: gloo or nccl."""
    memory: list[MemoryProfile]
    """One for each process, from the first; empty when training ended before the measured step. `RunResult.memory` has
    the largest of each number: what a device must have."""
    memory_sum: MemoryProfile | None
    train_s: list[float]
    """Wall time of training, one for each process."""
    train_s_max: float
    train_s_sum: float


@dataclass(frozen=True)
class Timing:
    """Wall time by phase. Step times leave the warm-up steps out; tokens are non-padding tokens."""

    load_s: float
    data_s: float | None = field(default=None, kw_only=True)
    """Part of `load_s` that went into texts and tokens; None in records that are older than the field."""
    train_s: float
    eval_s: float
    generate_s: float | None = field(default=None, kw_only=True)
    """Part of `eval_s` that went into generating and grading answers; None in records that are older than the field."""
    step_median_ms: float | None
    step_p10_ms: float | None
    step_p90_ms: float | None
    num_timed_steps: int
    tokens_per_s: float | None
    padding_fraction: float
    flops_per_token: float | None
    achieved_flops_per_s: float | None
    """FLOP/s over the timed steps, counting forward and backward of the method, not of padding."""
    peak_flops_per_s: float | None
    """Matrix-product rate of this machine in the compute dtype, measured in the run's process."""
    utilisation: float | None
    """Model FLOPs utilisation: `achieved_flops_per_s` as a part of `peak_flops_per_s`."""


@dataclass(frozen=True)
class Sizes:
    """Counts of parameters and bytes on disk of what was really written."""

    total_parameters: int
    trainable_parameters: int
    adapter_parameters: int
    """What the method adds or trains, the task head apart."""
    head_parameters: int
    weights_bytes: int | None
    """The file that is needed, beside the base, to use what was trained."""
    resume_bytes: int | None
    """Weights plus optimiser state and generator state: what a resume needs."""


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from."""

    command: str
    commit: str | None
    is_dirty: bool | None
    created_at: str
    hostname: str
    hardware: str
    num_threads: int
    python: str
    versions: dict[str, str]
    weights_digest: str
    data_digest: str
    seed: int
    fp32_products: str | None = None
    """How torch multiplies fp32 matrices: `highest` is fp32, `high` and `medium` let a GPU use TF32 or bf16."""


@dataclass(frozen=True)
class RunResult:
    """The record in `result.json`.

    `status` is `finished`, `diverged`, `oom`, `pruned` or `failed`. Everything but a failed run has its
    curve; a run that ended early has the measurements that were taken up to then.
    """

    status: str
    config_digest: str
    run_name: str
    model: str
    task: str
    method: str
    headline: str
    """Name of the score that stands for the run."""
    scores: list[Score]
    """Over the test items. Empty unless the run finished: test items judge, and nothing else reads them."""
    steps: int
    epochs: float
    final_train_loss: float | None
    memory: MemoryProfile | None
    timing: Timing | None
    sizes: Sizes | None
    provenance: Provenance
    processes: GroupUse | None = None
    """None for one process without a group."""
    validation: list[Score] = field(default_factory=list)
    """Over the validation items, with the weights that the run ended with; settings are chosen by them. Empty in
    records from before there were three splits, whose settings were chosen on the items that `scores` are over."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the table must know: texts cut, a checkpoint skipped, a merge tolerance."""
    error: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def score(self, name: str) -> Score | None:
        """Return the score of this name over the test items, or None."""
        return next((score for score in self.scores if score.name == name), None)

    @property
    def choosing_scores(self) -> list[Score]:
        """The scores that settings are chosen by: over validation items, or those of a record that has no others."""
        return self.validation or self.scores

    def choosing_score(self, name: str) -> Score | None:
        """Return the score of this name among `choosing_scores`, or None."""
        return next((score for score in self.choosing_scores if score.name == name), None)


def to_json(record: Any) -> dict[str, Any]:
    """A record as plain JSON data."""
    return dataclasses.asdict(record)


def from_json(cls: type[RecordT], data: Any) -> RecordT:
    """The inverse of `to_json`; null stands for NaN where a number is required, since JSON has none.

    Raises:
        UnknownFieldError: If a field is unknown.
        ValueError: If a required field is missing, or a value is not of its type.
    """
    return _read_record(cls, data, "")


def _read_record(cls: type[RecordT], data: Any, where: str) -> RecordT:
    name = where or cls.__name__
    if not isinstance(data, dict):
        raise ValueError(f"{name}: {_shown(data)} is no {cls.__name__}")
    hints = typing.get_type_hints(cls)
    unknown = set(data) - set(hints)
    if unknown:
        raise UnknownFieldError(f"{cls.__name__}: unknown fields {sorted(map(str, unknown))}")
    values = {key: _read(hints[key], value, f"{where}.{key}" if where else key) for key, value in data.items()}
    try:
        record = cls(**values)
    except TypeError as err:
        raise ValueError(f"{name}: {err}") from err
    if isinstance(record, RunResult) and record.status not in STATUSES:
        raise ValueError(f"status: {_shown(record.status)} is none; known: {', '.join(STATUSES)}")
    return record


def _read(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _read_record(hint, value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is list and isinstance(value, list):
        return [_read(arguments[0], entry, f"{where}[{index}]") for index, entry in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {key: _read(arguments[1], entry, f"{where}.{key}") for key, entry in value.items()}
    if hint is float:
        return _read_float(value, where)
    if hint is Any or (type(value) is hint and hint in (int, str, bool)):
        return value
    wanted = {int: "whole number", str: "text", bool: "true or false"}.get(hint, str(origin or hint))
    raise ValueError(f"{where}: {_shown(value)} is no {getattr(origin, '__name__', wanted)}")


def _read_float(value: Any, where: str) -> float:
    if value is None:
        return math.nan
    if type(value) not in (int, float) or abs(value) > 1e300:
        raise ValueError(f"{where}: {_shown(value)} is not a number")
    return float(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
