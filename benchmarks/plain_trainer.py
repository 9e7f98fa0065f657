"""One LoRA run as a plain script: transformers' Trainer, PEFT and datasets, as their own examples put them together.

    python plain_trainer.py --model FOLDER --train-file train.csv --eval-file eval.csv --out DIR --r 8 --seed 0

`makespan.py` starts it once per run of its loop. It imports nothing of lora_bench. What is not set is the Trainer's
default: AdamW (fused), random order, no tracker, a checkpoint with the optimiser's state after the last step.
`--padding max_length` is what transformers' run_glue.py does unless told otherwise, and `--padding longest` its
`--pad_to_max_length False`. `times.json` in `--out` says where the seconds went.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict, load_dataset
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

NUM_LABELS = 3
ENCODER_MATRICES = r".*encoder\.layer\.\d+\..*(query|key|value|dense)"
"""All linear layers of BERT's blocks; not its pooler."""


class PartClock(TrainerCallback):
    """When each part of the run ended; inside `train`, the seconds of the steps and of the checkpoint."""

    def __init__(self) -> None:
        self.ended_at: dict[str, float] = {}
        self.steps_s = self.checkpoint_s = 0.0
        self._step_began = self._step_ended = 0.0

    def end(self, part: str) -> None:
        """The part that began when the last one ended, ends."""
        self.ended_at[part] = time.time()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After the batch was fetched."""
        self._step_began = time.time()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After the update."""
        self._step_ended = time.time()
        self.steps_s += self._step_ended - self._step_began

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After a checkpoint, which follows its step."""
        self.checkpoint_s += time.time() - self._step_ended


def main() -> None:
    """Trains, evaluates, saves."""
    clock, options = PartClock(), read_options()
    clock.end("imports")
    set_seed(options.seed)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    texts = read_texts(options, tokenizer)
    clock.end("data")
    model = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=NUM_LABELS)
    model = get_peft_model(
        model,
        LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=options.r,
            lora_alpha=options.alpha,
            lora_dropout=options.lora_dropout,
            target_modules=ENCODER_MATRICES,
        ),
    )
    is_padded = options.padding == "max_length"
    trainer = Trainer(
        model=model,
        args=training_arguments(options),
        train_dataset=texts["train"],
        eval_dataset=texts["eval"],
        processing_class=tokenizer,
        data_collator=default_data_collator if is_padded else DataCollatorWithPadding(tokenizer),
        compute_metrics=accuracy,
        callbacks=[clock],
    )
    clock.end("model")
    trainer.train()
    clock.end("train")
    scores = trainer.evaluate()
    clock.end("evaluation")
    trainer.save_model()
    clock.end("save")
    found = {
        "ended_at": clock.ended_at,
        "steps_s": clock.steps_s,
        "checkpoint_s": clock.checkpoint_s,
        "steps": trainer.state.global_step,
        "accuracy": scores["eval_accuracy"],
        "num_eval": len(texts["eval"]),
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "mixed_precision": trainer.accelerator.mixed_precision,
    }
    (options.out / "times.json").write_text(json.dumps(found, indent=1) + "\n")


def read_texts(options: argparse.Namespace, tokenizer: Any) -> DatasetDict:
    """Both splits, tokenised; datasets keeps what it has tokenised before."""
    files = {"train": str(options.train_file), "eval": str(options.eval_file)}
    # Not `options` itself: datasets looks tokens up by all that the function refers to, rank and seed would be in it.
    padding, max_length = "max_length" if options.padding == "max_length" else False, options.max_length

    def tokenise(rows: dict[str, list[str]]) -> Any:
        return tokenizer(rows["text"], padding=padding, max_length=max_length, truncation=True)

    return load_dataset("csv", data_files=files).map(tokenise, batched=True)


def training_arguments(options: argparse.Namespace) -> TrainingArguments:
    """Only what the run asks for; the rest as it comes."""
    return TrainingArguments(
        output_dir=str(options.out),
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.eval_batch_size,
        learning_rate=options.lr,
        max_steps=options.steps,
        warmup_steps=options.warmup_steps,
        lr_scheduler_type=options.schedule,
        weight_decay=options.weight_decay,
        max_grad_norm=options.max_grad_norm,
        logging_steps=options.log_every,
        bf16=options.bf16,
        seed=options.seed,
        use_cpu=True,
        disable_tqdm=True,
    )


def accuracy(prediction: Any) -> dict[str, float]:
    """The share of items whose largest logit is that of their class."""
    return {"accuracy": float(np.mean(prediction.predictions.argmax(-1) == prediction.label_ids))}


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="folder with config.json, weights and tokenizer")
    parser.add_argument("--train-file", type=Path, required=True, help="CSV with the columns text and label")
    parser.add_argument("--eval-file", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--r", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alpha", type=float, default=32)
    parser.add_argument("--lora-dropout", type=float, default=0.0)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--warmup-steps", type=int, default=18)
    parser.add_argument("--schedule", default="linear")
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--max-grad-norm", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--eval-batch-size", type=int, default=64)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--log-every", type=int, default=10)
    parser.add_argument("--padding", choices=["max_length", "longest"], default="max_length")
    parser.add_argument("--bf16", action="store_true", help="autocast, as TrainingArguments(bf16=True) does")
    return parser.parse_args()


if __name__ == "__main__":
    main()
