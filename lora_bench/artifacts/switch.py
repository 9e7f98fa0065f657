"""Several adapters over one base in memory: loaded once, exchanged in turns, each asked the same prompts."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from safetensors import SafetensorError
from torch import nn

from lora_bench.artifacts.checks import check_switchable
from lora_bench.artifacts.network import find_device, load_base, load_run_tokenizer, logits, probe_batch, unfit
from lora_bench.artifacts.trained import ADAPTER_FILE, TrainedRun
from lora_bench.config.schema import GenerationTaskConfig, TaskKind
from lora_bench.errors import ArtifactError
from lora_bench.evaluation.generation import generate
from lora_bench.evaluation.likelihood import class_log_probabilities
from lora_bench.measure.latency import Spread, spread, time_in_turns
from lora_bench.methods.fused import fuse
from lora_bench.methods.quiet import quiet_peft
from lora_bench.models import decoder_start, max_tokens, read_architecture
from lora_bench.placing import place
from lora_bench.rundir import PEFT_CONFIG_FILE, find_adapter_config
from lora_bench.tasks import Example
from lora_bench.tasks.encode import encode

NUM_WARMUP = 2
BASE = "base"


@dataclass(frozen=True)
class Adapter:
    """One run in the switch."""

    name: str
    num_bytes: int
    load_ms: float
    """From disk into the network, once."""
    switch: Spread
    """From the adapter before it in the turn."""
    answers: list[str]
    """One per prompt."""


@dataclass(frozen=True)
class SwitchReport:
    """What was measured and said."""

    base_load_ms: float
    base_bytes: int
    """Of the base's parameters in memory."""
    base_answers: list[str]
    """Without any adapter; empty for a classifier, whose head would be untrained."""
    adapters: list[Adapter]


def switch_runs(runs: Sequence[TrainedRun], prompts: Sequence[str], *, num_rounds: int) -> SwitchReport:
    """Loads the base once and every run's adapter beside it, and goes round.

    Raises:
        ArtifactError: If the runs cannot share a base in memory.
    """
    check_switchable(runs)
    _ = runs[0].labels  # Read from the task's data, which is no part of loading the base.
    started = time.perf_counter()
    base = load_base(runs[0]).to(find_device())
    base_load_ms = 1e3 * (time.perf_counter() - started)
    base_bytes = sum(parameter.numel() * parameter.element_size() for parameter in base.parameters())
    net, load_ms = load_side_by_side(runs, base)
    calls = {trained.name: _switch_to(net, index) for index, trained in enumerate(runs)}
    seconds = time_in_turns(calls, num_rounds=num_rounds, num_warmup=NUM_WARMUP)
    answers = {}
    for trained in runs:
        calls[trained.name]()
        answers[trained.name] = ask(net, trained, prompts)
    with net.disable_adapter():
        base_answers = ask(net, runs[0], prompts) if runs[0].kind is TaskKind.generation else []
    adapters = [
        Adapter(
            name=trained.name,
            num_bytes=(trained.weights / ADAPTER_FILE).stat().st_size,
            load_ms=load_ms[index],
            switch=spread(seconds[trained.name]),
            answers=answers[trained.name],
        )
        for index, trained in enumerate(runs)
    ]
    return SwitchReport(base_load_ms, base_bytes, base_answers, adapters)


def load_side_by_side(runs: Sequence[TrainedRun], base: nn.Module) -> tuple[PeftModel, list[float]]:
    """The base with all adapters, each under `_adapter_name`, and what each took to load, in milliseconds.

    Raises:
        ArtifactError: If an adapter does not fit the base, or changes the base, which the others stand on.
    """
    for trained in runs:
        place(trained.config, base)  # Splits what any of them has split.
    batch = {name: value.to(find_device()) for name, value in probe_batch(base).items()}
    untouched = logits(base, batch)
    net, load_ms = None, []
    for index, trained in enumerate(runs):
        with _peft_folder(trained) as folder, quiet_peft():
            started = time.perf_counter()
            try:
                if net is None:
                    net = PeftModel.from_pretrained(base, folder, adapter_name=_adapter_name(index))
                else:
                    net.load_adapter(folder, _adapter_name(index))
            except (ValueError, RuntimeError, OSError, SafetensorError) as err:
                raise unfit(trained, err) from err
            load_ms.append(1e3 * (time.perf_counter() - started))
    assert net is not None, "there is a run"
    net.eval()
    with net.disable_adapter():
        if not torch.equal(logits(net, batch), untouched):
            raise ArtifactError(
                f"method={runs[0].config.method.name} changes the weights of the base, so its adapters cannot share "
                f"one; lora-bench merge writes each as a model"
            )
    if all(getattr(run.config.method, "fused", False) for run in runs):
        fuse(net)
    return net, load_ms


def ask(net: Any, trained: TrainedRun, prompts: Sequence[str]) -> list[str]:
    """What the network with its active adapter says: the likeliest class and its probability, or the greedy text."""
    tokenizer = load_run_tokenizer(trained)
    task = trained.config.task
    architecture = read_architecture(trained.config.model)
    limit = min(task.max_length, max_tokens(architecture) or task.max_length)
    examples = [Example(str(index), text, label=0, response="") for index, text in enumerate(prompts)]
    start_id = decoder_start(architecture)
    split = encode(examples, tokenizer, kind=trained.kind, max_length=limit, cache=None, start_id=start_id)
    shared = {"pad_id": tokenizer.pad_token_id, "batch_size": len(prompts), "device": find_device()}
    with torch.no_grad():
        if trained.kind is TaskKind.classification:
            return _name_classes(np.exp(class_log_probabilities(net, split, **shared)), trained)
        assert isinstance(task, GenerationTaskConfig), "its kind says so"
        order = np.arange(len(prompts))
        return generate(net, split, order, tokenizer=tokenizer, max_new_tokens=task.max_new_tokens, **shared)


@contextlib.contextmanager
def _peft_folder(trained: TrainedRun) -> Iterator[str]:
    """The run's adapter under PEFT's names; only for a base that was split as the run's was."""
    config = find_adapter_config(trained.weights)
    assert config is not None, "check_adapter has seen it"
    with tempfile.TemporaryDirectory() as folder:
        for path, name in ((config, PEFT_CONFIG_FILE), (trained.weights / ADAPTER_FILE, ADAPTER_FILE)):
            (Path(folder) / name).symlink_to(path.resolve())
        yield folder


def _name_classes(probabilities_NC: Any, trained: TrainedRun) -> list[str]:
    labels = trained.labels or [f"class {index}" for index in range(probabilities_NC.shape[1])]
    return [f"{labels[int(row.argmax())]} ({row.max():.2f})" for row in probabilities_NC]


def _switch_to(net: PeftModel, index: int) -> Any:
    return lambda: net.set_adapter(_adapter_name(index))


def _adapter_name(index: int) -> str:
    # A run's name may hold a dot, which PEFT does not allow.
    return f"run{index}"
