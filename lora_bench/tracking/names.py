"""The stable names of metrics, each with its unit as the last word.

`eval/<score>` (over validation items) and `test/<score>`, with `_ci_low` and `_ci_high`; `memory/..._gib`,
`time/..._ms` and `_s`, `perf/...`, `checkpoint/..._mib`, `parameters/..._count`, `train/final_loss`, and `param/<key>`
for the numbers of a configuration that one filters or draws by: MLflow compares its parameters as text only.
"""

from __future__ import annotations

from typing import Any

from lora_bench.records import GIB, MemoryProfile, RunResult, Score, Sizes, Timing

MIB = GIB // 1024

NUMERIC_KNOBS = ("lora.r", "lora.alpha", "training.lr", "training.batch_size", "training.max_steps")
"""Numbers of the configuration that are metrics as well."""


def result_metrics(result: RunResult) -> dict[str, float]:
    """Every number of a result under its name; what was not measured is left out."""
    numbers: dict[str, float | None] = {"train/final_loss": result.final_train_loss}
    for score in result.choosing_scores:
        numbers |= _score_metrics("eval", score)
    for score in result.scores:
        numbers |= _score_metrics("test", score)
    numbers |= memory_metrics(result.memory) if result.memory else {}
    numbers |= timing_metrics(result.timing) if result.timing else {}
    numbers |= size_metrics(result.sizes) if result.sizes else {}
    return {key: float(value) for key, value in numbers.items() if value is not None}


def config_metrics(config: dict[str, Any]) -> dict[str, float]:
    """`NUMERIC_KNOBS` of a plain configuration, as far as its method has them."""
    numbers = {}
    for knob in NUMERIC_KNOBS:
        group, key = knob.split(".")
        value = (config.get(group) or {}).get(key)
        if isinstance(value, int | float):
            numbers[f"param/{knob}"] = float(value)
    return numbers


def _score_metrics(split: str, score: Score) -> dict[str, float | None]:
    key = f"{split}/{score.name}"
    return {key: score.value, f"{key}_ci_low": score.ci_low, f"{key}_ci_high": score.ci_high}


def memory_metrics(memory: MemoryProfile) -> dict[str, float | None]:
    """Peaks and parts of training memory, in GiB. What was not measured is None."""
    sizes = {
        "peak_tensor": memory.peak_tensor_bytes,
        "weights": memory.weight_bytes,
        "gradients": memory.gradient_bytes,
        "optimizer": memory.optimizer_bytes,
        "activations": memory.activation_bytes,
        "peak_train_rss": memory.peak_train_rss_bytes,
        "peak_eval_rss": memory.peak_eval_rss_bytes,
        "rss_after_load": memory.rss_after_load_bytes,
        "peak_train_reserved": memory.peak_train_reserved_bytes,
        "peak_eval_allocated": memory.peak_eval_allocated_bytes,
    }
    return {f"memory/{name}_gib": None if size is None else size / GIB for name, size in sizes.items()}


def timing_metrics(timing: Timing) -> dict[str, float | None]:
    """Times and rates. What was not measured is None."""
    return {
        "time/load_s": timing.load_s,
        "time/data_s": timing.data_s,
        "time/train_s": timing.train_s,
        "time/eval_s": timing.eval_s,
        "time/generate_s": timing.generate_s,
        "time/step_median_ms": timing.step_median_ms,
        "time/step_p10_ms": timing.step_p10_ms,
        "time/step_p90_ms": timing.step_p90_ms,
        "perf/tokens_per_s": timing.tokens_per_s,
        "perf/padding_fraction": timing.padding_fraction,
        "perf/achieved_flops_per_s": timing.achieved_flops_per_s,
        "perf/utilisation_fraction": timing.utilisation,  # Model FLOPs utilisation (MFU).
    }


def size_metrics(sizes: Sizes) -> dict[str, float | None]:
    """Counts of parameters and bytes on disk. What was not measured is None."""
    return {
        "parameters/total_count": sizes.total_parameters,
        "parameters/trainable_count": sizes.trainable_parameters,
        "parameters/adapter_count": sizes.adapter_parameters,
        "parameters/head_count": sizes.head_parameters,
        "checkpoint/weights_mib": sizes.weights_bytes / MIB if sizes.weights_bytes is not None else None,
        "checkpoint/resume_mib": sizes.resume_bytes / MIB if sizes.resume_bytes is not None else None,
    }
