"""Step time of this project's loop beside the transformers Trainer with PEFT, on the same model and batches.

    python benchmarks/step_speed.py --out results/step_speed.json

Contestants train side by side, each in a process of its own, and take turns of a few steps (A B C A B C ...): a slow
second of the machine meets all of them. The first step of a turn finds cold caches and is not timed. Each round
starts from the pretrained weights with another seed, so that final losses have a spread.

    loop_bf16      this project: bf16 weights, fp32 masters, fused LoRA, fast dropout and attention
    loop_fp32      the same in fp32
    trainer_fp32   the Trainer with PEFT as their documentation shows it
    trainer_bf16   the same with bf16=True (autocast)

Model: MiniLM with three classes. Batches: tweets of at least `--length` tokens, cut to that, so nothing is padding.
All use fused AdamW, a constant rate and a gradient norm of at most 1. A step is forward, backward, clipping,
optimiser and clearing gradients; fetching the batch is outside. A ratio is the median over pairs of turns; its
spread is the range over rounds. The share of the machine's rate counts, for N tokens in B texts of T, P weights in the
matrices of L blocks of width d and P_A in adapters (head, pooler and embeddings are left out):

    attention  12 B T^2 d L       scores and sums, forward and twice that backward
    full       6 N P              forward, gradient of inputs, gradient of weights
    lora       4 N P + 6 N P_A - 6 N d^2     no gradient of weights, and none of the first input of q, k, v
"""

from __future__ import annotations

import argparse
import itertools
import math
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from peft import LoraConfig, TaskType, get_peft_model
from surroundings import describe_machine, others_busy_s
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForSequenceClassification,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from lora_bench.config.overrides import compose_config
from lora_bench.config.resolve import resolve
from lora_bench.config.schema import RunConfig, TaskKind
from lora_bench.errors import MeasurementError
from lora_bench.measure import flops
from lora_bench.methods import Placed, build_method
from lora_bench.models import target_modules
from lora_bench.models.catalog import locate
from lora_bench.models.fast_attention import use_fast_attention
from lora_bench.models.fast_dropout import use_fast_dropout
from lora_bench.models.heads import head_modules
from lora_bench.models.load import load_model, load_tokenizer
from lora_bench.preflight import cache_folder
from lora_bench.rundir import write_json
from lora_bench.tasks import load_task
from lora_bench.tasks.collate import collate
from lora_bench.tasks.encode import EncodedSplit, encode
from lora_bench.training.backends import SingleBackend
from lora_bench.training.batches import BatchPlan
from lora_bench.training.loop import Loop, TrainingJob
from lora_bench.training.observer import NullObserver

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
CONTESTANTS = ("loop_bf16", "loop_fp32", "trainer_fp32", "trainer_bf16")
RATES = {"lora": 1e-3, "full": 5e-5}
NUM_LABELS = 3
NUM_HELD_OUT = 512
TARGETS = {
    ("lora", "loop_bf16", "trainer_fp32"): 0.35,
    ("lora", "loop_bf16", "trainer_bf16"): 0.6,
    ("lora", "loop_fp32", "trainer_fp32"): 1.0,
    ("full", "loop_bf16", "trainer_fp32"): 1.0,
    ("full", "loop_bf16", "trainer_bf16"): 1.0,
    ("full", "loop_fp32", "trainer_fp32"): 1.0,
}
"""Ratios that are reported, and what they should be at most."""


@dataclass(frozen=True)
class Texts:
    """What all contestants train on and are judged by."""

    train: EncodedSplit
    held_out: EncodedSplit
    pad_id: int

    def batches(self, config: RunConfig) -> Iterator[dict[str, torch.Tensor]]:
        """The batches of our loop for this configuration, in order."""
        plan = BatchPlan(self.train.lengths, batch_size=config.training.batch_size, seed=config.seed)
        for step in range(config.training.max_steps):
            yield collate(self.train, plan.batch(step), pad_id=self.pad_id)


@dataclass(frozen=True)
class Training:
    """One contestant in one round."""

    contestant: str
    method: str
    seed: int
    step_ms: list[float]
    """Of every step; not a number where it was not timed."""
    eval_loss: float


def train_with_loop(
    config: RunConfig, texts: Texts, dtype: str, wait_for_turn: Callable[[], None]
) -> tuple[nn.Module, list[float]]:
    """(a): the project's own way from the pretrained weights; returns the network and the seconds of each step."""

    def stop_requested() -> bool:
        wait_for_turn()  # The loop asks after each step, with its clock stopped.
        return False

    net = load_model(
        config.model, kind=TaskKind.classification, num_labels=NUM_LABELS, cache=cache_folder(config),
        dtype=DTYPES[dtype], seed=config.seed, dropout=None, pad_token_id=texts.pad_id,
    )  # fmt: skip
    use_fast_attention(net)
    use_fast_dropout(net)
    roles = config.placement.roles if config.placement else []
    placed = Placed(tuple(target_modules(net, roles)) if roles else (), tuple(head_modules(net, with_pooler=False)))
    torch.manual_seed(config.seed)
    method = build_method(config)
    net = method.apply(net, placed)
    with tempfile.TemporaryDirectory() as folder:
        job = TrainingJob(
            net=net, method=method, training=config.training, kind=TaskKind.classification, split=texts.train,
            pad_id=texts.pad_id, seed=config.seed, config_digest="", data_digest="",
            checkpoints=Path(folder), evaluate=dict,
            observer=NullObserver(), stop_requested=stop_requested,
        )  # fmt: skip
        loop = Loop(job, SingleBackend())
        wait_for_turn()
        progress = loop.run()
    # One step of the loop is taken under a count of live bytes, which its own timing leaves out as well.
    skipped = set(progress.untimed_steps)
    return net, [math.nan if step in skipped else value for step, value in enumerate(progress.step_s)]


def train_with_trainer(
    config: RunConfig, texts: Texts, dtype: str, wait_for_turn: Callable[[], None]
) -> tuple[nn.Module, list[float]]:
    """(b): as the documentation of transformers and PEFT shows it, with everything off that is not training."""
    torch.manual_seed(config.seed)
    folder = locate(config.model)
    net: nn.Module = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=NUM_LABELS)
    if config.placement is not None and config.lora is not None:
        modules = target_modules(net, config.placement.roles)
        peft_config = LoraConfig(
            task_type=TaskType.SEQ_CLS, r=config.lora.r, lora_alpha=config.lora.alpha, target_modules=modules
        )
        net = get_peft_model(net, peft_config)
    items = [
        {name: tensor[index] for name, tensor in batch.items()}
        for batch in texts.batches(config)
        for index in range(config.training.batch_size)
    ]
    clock = StepClock(wait_for_turn)
    with tempfile.TemporaryDirectory() as output:
        arguments = TrainingArguments(
            output_dir=output, per_device_train_batch_size=config.training.batch_size, bf16=dtype == "bf16",
            max_steps=config.training.max_steps, learning_rate=config.training.lr, lr_scheduler_type="constant",
            max_grad_norm=config.training.max_grad_norm, train_sampling_strategy="sequential", use_cpu=True,
            seed=config.seed, eval_strategy="no", save_strategy="no", logging_strategy="no", report_to="none",
            disable_tqdm=True, dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = Trainer(model=net, args=arguments, train_dataset=items, callbacks=[clock])
    trainer.remove_callback(PrinterCallback)
    if trainer.accelerator.mixed_precision != ("bf16" if dtype == "bf16" else "no"):
        raise MeasurementError(f"the Trainer runs in {trainer.accelerator.mixed_precision}, not in {dtype}")
    wait_for_turn()
    trainer.train()
    return net, clock.seconds


class StepClock(TrainerCallback):
    """Seconds from the beginning of each step, after its batch was fetched, to its end."""

    def __init__(self, wait_for_turn: Callable[[], None]) -> None:
        self.seconds: list[float] = []
        self._start = 0.0
        self._wait_for_turn = wait_for_turn

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Starts."""
        self._start = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stops; gradients have been cleared."""
        self.seconds.append(time.perf_counter() - self._start)
        self._wait_for_turn()


def contest(contestant: str, method: str, seed: int, options: argparse.Namespace, line: Connection) -> None:
    """One contestant's process: says that it is ready, then takes a turn whenever it hears something."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    steps_until_turn = itertools.cycle(range(options.turn))

    def wait_for_turn() -> None:  # Called before the first step and after each.
        if next(steps_until_turn) == 0:
            line.send(None)
            line.recv()

    kind, dtype = contestant.split("_")
    config, texts = compose(method, dtype, seed, options), read_texts(options)
    train = train_with_loop if kind == "loop" else train_with_trainer
    net, seconds = train(config, texts, dtype, wait_for_turn)
    line.send(Training(contestant, method, seed, [1e3 * value for value in seconds], eval_loss(net, texts)))


def run_round(method: str, seed: int, options: argparse.Namespace) -> list[Training]:
    """All contestants of a method, turn by turn."""
    context = multiprocessing.get_context("spawn")
    processes, lines = [], []
    for contestant in options.contestants:
        line, far_end = context.Pipe()
        process = context.Process(target=contest, args=(contestant, method, seed, options, far_end), daemon=True)
        process.start()
        far_end.close()  # So that a contestant that dies ends the line.
        line.recv()
        processes.append(process)
        lines.append(line)
    for _ in range(options.steps // options.turn):
        for line in lines:
            line.send(None)
            line.recv()
    for line in lines:
        line.send(None)
    trainings = [line.recv() for line in lines]
    for process in processes:
        process.join()
    return trainings


def compose(method: str, dtype: str, seed: int, options: argparse.Namespace) -> RunConfig:
    """The run of our loop; the Trainer reads its settings from it as well."""
    words = {
        "model": "minilm", "model.attention": "sdpa", "method": method, "seed": seed, "training.dtype": dtype,
        "training.lr": RATES[method], "training.schedule": "constant", "training.warmup_ratio": 0.0,
        "training.batch_size": options.batch_size, "training.max_steps": options.steps, "training.eval_every": 0,
        "training.checkpoint_every": 0, "training.log_every": options.steps, "task.max_length": options.length,
        # The Trainer has one rate for all that it trains.
        "training.head_lr": "null",
    }  # fmt: skip
    return resolve(compose_config([f"{key}={value}" for key, value in words.items()]))


def read_texts(options: argparse.Namespace) -> Texts:
    """The tweets that fill `length` tokens."""
    config = compose("lora", "fp32", 0, options)
    data, tokenizer = load_task(config.task), load_tokenizer(config.model, cache=cache_folder(config))
    splits = []
    for examples in (data.train, data.validation + data.test):
        how = {"kind": data.kind, "max_length": options.length, "cache": cache_folder(config)}
        lengths = encode(examples, tokenizer, **how).lengths
        long = [item for item, length in zip(examples, lengths, strict=True) if length == options.length]
        splits.append(encode(long, tokenizer, **how))
    return Texts(*splits, pad_id=tokenizer.pad_token_id)


def eval_loss(net: nn.Module, texts: Texts) -> float:
    """Mean cross-entropy over held-out tweets, without dropout."""
    net.eval()
    total = 0.0
    with torch.no_grad():
        for indices in np.array_split(np.arange(NUM_HELD_OUT), 8):
            batch = collate(texts.held_out, indices, pad_id=texts.pad_id)
            labels = batch.pop("labels")
            total += float(cross_entropy(net(**batch).logits.float(), labels, reduction="sum"))
    return total / NUM_HELD_OUT


def step_flops(method: str, options: argparse.Namespace) -> float:
    """FLOPs of a step by the formulas above."""
    config = compose(method, "fp32", 0, options)
    shape = config.model.architecture
    width, inner, layers = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"]
    tokens = options.batch_size * options.length
    weights = layers * (4 * width**2 + 2 * width * inner)
    attention = 12 * options.batch_size * options.length**2 * width * layers
    if config.lora is None:
        return float(6 * tokens * weights + attention)
    adapters = config.lora.r * layers * (4 * 2 * width + 2 * (width + inner))
    return float(4 * tokens * weights + 6 * tokens * adapters - 6 * tokens * width**2 + attention)


def timed_turns(training: Training, options: argparse.Namespace) -> np.ndarray:
    """Times in ms, shape (turns, steps of a turn): without the first turn and the first step of each."""
    return np.array(training.step_ms).reshape(-1, options.turn)[1:, 1:]


def summarise(trainings: list[Training], rates: dict[str, float], options: argparse.Namespace) -> dict[str, Any]:
    """Step times, losses and shares by contestant, and ratios between contestants."""
    rounds: dict[tuple[str, str], list[Training]] = {}
    for training in trainings:
        rounds.setdefault((training.method, training.contestant), []).append(training)
    contestants, ratios = {}, {}
    for (method, contestant), members in rounds.items():
        p10, median, p90 = np.nanquantile([timed_turns(member, options) for member in members], [0.1, 0.5, 0.9])
        flops_per_s = step_flops(method, options) / (median / 1e3)
        contestants[f"{method}/{contestant}"] = {
            "step_median_ms": median, "step_p10_ms": p10, "step_p90_ms": p90, "gflops_per_s": flops_per_s / 1e9,
            "share_of_matrix_rate": flops_per_s / rates[contestant.split("_")[1]],
            "eval_loss": [member.eval_loss for member in members],
        }  # fmt: skip
    for (method, ours, theirs), target in TARGETS.items():
        pairs = list(zip(rounds.get((method, ours), []), rounds.get((method, theirs), []), strict=False))
        if pairs:
            by_round = [
                np.median(np.nanmedian(timed_turns(a, options), 1) / np.nanmedian(timed_turns(b, options), 1))
                for a, b in pairs
            ]
            ratios[f"{method}: {ours} / {theirs}"] = {
                "median": statistics.median(by_round), "min": min(by_round), "max": max(by_round), "target": target,
                "eval_loss_difference": [a.eval_loss - b.eval_loss for a, b in pairs],
            }  # fmt: skip
    return {"contestants": contestants, "ratios": ratios}


def print_summary(summary: dict[str, Any]) -> None:
    """Two tables: contestants, and ratios with their targets."""
    print(f"\n{'':20} {'step ms':>8} {'p10':>7} {'p90':>7} {'GFLOP/s':>8} {'share':>6}  eval loss by seed")
    for name, row in summary["contestants"].items():
        losses = " ".join(f"{value:.3f}" for value in row["eval_loss"])
        print(
            f"{name:20} {row['step_median_ms']:8.1f} {row['step_p10_ms']:7.1f} {row['step_p90_ms']:7.1f} "
            f"{row['gflops_per_s']:8.0f} {row['share_of_matrix_rate']:6.2f}  {losses}"
        )
    print(f"\n{'':34} {'ratio':>6} {'min':>6} {'max':>6} {'target':>6}")
    for name, row in summary["ratios"].items():
        print(f"{name:34} {row['median']:6.3f} {row['min']:6.3f} {row['max']:6.3f} {row['target']:6.2f}")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="JSON file for everything that was measured")
    parser.add_argument("--rounds", type=int, default=5, help="trainings of each contestant, one seed each")
    parser.add_argument("--steps", type=int, default=60, help="optimiser steps of a training")
    parser.add_argument("--turn", type=int, default=6, help="steps of a turn; the first turn is not timed")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--length", type=int, default=32, help="tokens of each text")
    parser.add_argument("--methods", nargs="+", choices=sorted(RATES), default=["lora", "full"])
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=CONTESTANTS)
    options = parser.parse_args()
    if options.turn < 2 or options.steps % options.turn or options.steps < 2 * options.turn:
        parser.error(f"--steps {options.steps} has to be two or more times --turn {options.turn}, which is 2 or more")
    return options


def main() -> None:
    """Runs all rounds, prints the tables and writes everything that was measured."""
    options, described = read_options(), describe_machine()
    rates, trainings, other_cores = dict.fromkeys(DTYPES, 0.0), [], []
    for seed in range(options.rounds):
        for method in options.methods:
            start_s, start_others_s = time.perf_counter(), others_busy_s()
            trainings += run_round(method, seed, options)
            other_cores.append((others_busy_s() - start_others_s) / (time.perf_counter() - start_s))
            for done in trainings[-len(options.contestants) :]:
                step_ms = np.nanmedian(timed_turns(done, options))
                print(f"round {seed + 1} {method:5} {done.contestant:13} {step_ms:7.1f} ms, loss {done.eval_loss:.3f}")
            print(f"other processes kept {other_cores[-1]:.2f} cores busy meanwhile", flush=True)
        for name, dtype in DTYPES.items():
            rates[name] = max(rates[name], flops.peak_flops_per_s(dtype, torch.device("cpu")))
    summary = summarise(trainings, rates, options)
    print_summary(summary)
    if options.out:
        settings = {name: value for name, value in vars(options).items() if name != "out"}
        record = {"settings": settings | {"learning_rates": RATES}, "machine": described, "other_cores": other_cores}
        record |= {"matrix_rate_gflops_per_s": {name: rate / 1e9 for name, rate in rates.items()}, **summary}
        write_json(options.out, record | {"trainings": [vars(training) for training in trainings]})


if __name__ == "__main__":
    main()
