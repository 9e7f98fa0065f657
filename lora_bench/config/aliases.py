"""Words that other tools use for our keys and choices, and the keys that end in a given word."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_type_hints

from lora_bench.config.schema import RunConfig
from lora_bench.config.store import SCHEMAS

KEYS: Mapping[str, tuple[str, ...]] = {
    "adapter": ("method",),
    "base_model": ("model",),
    "cache_dir": ("paths.cache",),
    "context_length": ("task.max_length",),
    "data": ("task",),
    "data_files": ("task.train",),
    "dataset": ("task",),
    "devices": ("processes.count",),
    "effective_batch_size": ("training.batch_size",),
    "epochs": ("training.max_steps",),
    "eval_file": ("task.eval",),
    "eval_steps": ("training.eval_every",),
    "experiment_name": ("tracking.experiment",),
    "fp16": ("training.dtype",),
    "gpus": ("processes.count",),
    "grad_clip": ("training.max_grad_norm",),
    "gradient_accumulation_steps": ("training.micro_batch_size",),
    "gradient_checkpointing": ("training.activation_checkpointing",),
    "init_lora_weights": ("lora.init", "method"),
    "label_column": ("task.label",),
    "launcher": ("executor",),
    "layers_to_transform": ("placement.layers",),
    "learning_rate": ("training.lr",),
    "log_interval": ("training.log_every",),
    "logging_steps": ("training.log_every",),
    "lora_alpha": ("lora.alpha",),
    "lora_dropout": ("lora.dropout",),
    "lora_r": ("lora.r",),
    "lora_rank": ("lora.r",),
    "lora_target_modules": ("placement", "placement.roles"),
    "lr_scheduler": ("training.schedule",),
    "lr_scheduler_type": ("training.schedule",),
    "max_len": ("task.max_length",),
    "max_seq_length": ("task.max_length",),
    "max_seq_len": ("task.max_length",),
    "micro_batch": ("training.micro_batch_size",),
    "mlflow_uri": ("tracking.uri",),
    "model_id": ("model.hub_id",),
    "model_name": ("model",),
    "model_name_or_path": ("model",),
    "model_path": ("model.folder",),
    "num_epochs": ("training.max_steps",),
    "num_gpus": ("processes.count",),
    "num_iterations": ("training.max_steps",),
    "num_processes": ("processes.count",),
    "num_proc": ("processes.count",),
    "num_steps": ("training.max_steps",),
    "num_threads": ("executor.threads_per_run",),
    "num_train_epochs": ("training.max_steps",),
    "num_workers": ("study.n_jobs",),
    "optimizer": ("training.lr", "training.weight_decay"),
    "out": ("paths.root",),
    "outdir": ("paths.root",),
    "output": ("paths.root",),
    "output_dir": ("paths.root",),
    "path": ("model.folder", "task.train"),
    "peft_type": ("method",),
    "per_device_eval_batch_size": ("training.eval_batch_size",),
    "per_device_train_batch_size": ("training.batch_size",),
    "precision": ("training.dtype",),
    "random_seed": ("seed",),
    "rank": ("lora.r",),
    "run_dir": ("paths.root",),
    "save_steps": ("training.checkpoint_every",),
    "scheduler": ("training.schedule",),
    "seq_len": ("task.max_length",),
    "seq_length": ("task.max_length",),
    "steps": ("training.max_steps",),
    "strategy": ("processes",),
    "study_name": ("study.name",),
    "target_modules": ("placement", "placement.roles"),
    "test_file": ("task.eval",),
    "text_column": ("task.text",),
    "threads": ("executor.threads_per_run",),
    "total_steps": ("training.max_steps",),
    "train_batch_size": ("training.batch_size",),
    "train_file": ("task.train",),
    "trials": ("study.n_trials",),
    "val_file": ("task.validation",),
    "validation_file": ("task.validation",),
    "warmup": ("training.warmup_ratio",),
    "warmup_steps": ("training.warmup_ratio",),
    "wd": ("training.weight_decay",),
    "workers": ("study.n_jobs",),
    "world_size": ("processes.count",),
}
"""The last part of a key as other tools spell it -> ours, the likeliest first."""

ADVICE: Mapping[str, str] = {
    "epochs": "training.max_steps counts optimiser steps; an epoch is the training items / training.batch_size of them",
    "num_epochs": "training.max_steps counts optimiser steps; an epoch is the training items / training.batch_size",
    "num_train_epochs": "training.max_steps counts optimiser steps; an epoch is the training items / "
    "training.batch_size",
    "gradient_accumulation_steps": "training.micro_batch_size is training.batch_size / the accumulation steps",
    "warmup_steps": "training.warmup_ratio is the part of training.max_steps, in [0, 1)",
    "warmup": "training.warmup_ratio is the part of training.max_steps, in [0, 1)",
    "bf16": "training.dtype=bf16",
    "fp16": "training.dtype is fp32 or bf16",
    "fp32": "training.dtype=fp32",
    "optimizer": "every run is trained with AdamW; its rate and weight decay are keys",
    "optim": "every run is trained with AdamW; training.lr and training.weight_decay are its keys",
    "load_in_4bit": "method=qlora trains beside a base in four bits",
    "load_in_8bit": "method=qlora trains beside a base in four bits; there is none in eight",
    "use_dora": "method=dora",
    "use_rslora": "method=rslora, or lora.alpha_convention=rslora",
    "modules_to_save": "the task head is always trained and saved; lora.bias and placement say what else is",
    "device": "a run takes the GPU that there is, else the CPU; CUDA_VISIBLE_DEVICES= hides GPUs",
}
"""Words without a key of the same meaning -> what to do instead."""

CHOICES: Mapping[str, Mapping[str, str]] = {
    "executor": {"joblib": "local", "submitit": "slurm", "submitit_local": "local", "submitit_slurm": "slurm"},
    "method": {
        "fft": "full",
        "finetune": "full",
        "finetuning": "full",
        "fine_tuning": "full",
        "full_finetuning": "full",
        "ft": "full",
        "houlsby": "adapter_h",
        "pfeiffer": "adapter_p",
        "p_tuning": "prefix_embed",
        "prefix_tuning": "prefix_layer",
        "prompt_tuning": "prefix_embed",
        "sft": "full",
    },
    "model": {"gpt2_small": "gpt2", "all_minilm_l6_v2": "minilm", "bert": "minilm", "smollm2": "smollm2-135m"},
    "placement": {"all_linear": "all", "attn": "attention", "ffn": "mlp", "q_v": "qv", "qkvo": "attention"},
    "processes": {"deepspeed": "zero2", "none": "single", "zero": "zero2"},
    "task": {"csv": "files", "custom": "files", "file": "files", "json": "files", "jsonl": "files"},
    "tracking": {"null": "none", "off": "none", "wandb": "mlflow"},
}
"""Group -> what other tools call a choice, with `_` for every `-` -> ours."""

MODULES: Mapping[str, str] = {
    "q_proj": "q",
    "k_proj": "k",
    "v_proj": "v",
    "o_proj": "o",
    "out_proj": "o",
    "up_proj": "up",
    "gate_proj": "gate",
    "down_proj": "down",
    "fc1": "up",
    "fc2": "down",
    "c_fc": "up",
    "query": "q",
    "key": "k",
    "value": "v",
    "embed_tokens": "embed",
    "wte": "embed",
    "lm_head": "unembed",
}
"""Names of modules in architectures -> our role."""


def like_keys(key: str) -> tuple[str, ...]:
    """Return our keys for a key that does not exist, the likeliest first; empty when none comes to mind.

    Looks, in this order, for another tool's word, for the keys that end in the same word, and for the nearest
    spelling of either. A group that was named in the right way is preferred.
    """
    word = key.rsplit(".", 1)[-1].lower().replace("-", "_")
    if (known := _known(word)) or word in ADVICE:
        return _preferring(key, known)
    near = difflib.get_close_matches(word, sorted({*leaves(), *KEYS}), n=1, cutoff=0.75)
    return _preferring(key, _known(near[0])) if near else ()


def like_choice(group: str, given: str, accepted: Sequence[str]) -> str | None:
    """Return our choice for another tool's word, or for another spelling of ours; None when there is none."""
    plain = given.strip("[]'\" ").lower().replace("-", "_")
    spelt = {name.lower().replace("-", "_"): name for name in accepted}
    named = CHOICES.get(group, {}).get(plain)
    return spelt.get(plain) or (named if named in accepted else None)


def as_roles(given: str) -> str | None:
    """Return the placement for a list of module names (`[q_proj,v_proj]`); None where one of them is unknown."""
    words = [word.strip(" '\"") for word in given.strip("[]() ").split(",")]
    if len(words) == 1 and words[0].lower().replace("-", "_") == "all_linear":
        return "placement=all"
    roles = [MODULES.get(word, word if word in MODULES.values() else None) for word in words]
    return None if None in roles else f"placement.roles=[{','.join(dict.fromkeys(filter(None, roles)))}]"


@functools.lru_cache
def leaves() -> Mapping[str, tuple[str, ...]]:
    """Return the last part of every key -> the keys that end in it, of all choices of all groups."""
    found: dict[str, list[str]] = {}
    for key, _ in schema_keys():
        found.setdefault(key.rsplit(".", 1)[-1], []).append(key)
    return {word: tuple(dict.fromkeys(keys)) for word, keys in found.items()}


def schema_keys() -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    """Return every dotted key of every choice with its field; a key of several choices comes several times."""
    for entry in dataclasses.fields(RunConfig):
        if entry.name not in SCHEMAS:
            yield entry.name, entry
    for group, members in SCHEMAS.items():
        for schema in members.values():
            yield from _keys_of(schema, group)


def field_type(owner: type, name: str) -> Any:
    """Return the type of a field, without its `| None`."""
    hint = get_type_hints(owner)[name]
    members = [member for member in get_args(hint) if member is not type(None)]
    return members[0] if type(None) in get_args(hint) else hint


def _keys_of(schema: type, prefix: str) -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    for entry in dataclasses.fields(schema):
        kind = field_type(schema, entry.name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            yield from _keys_of(kind, f"{prefix}.{entry.name}")
        else:
            yield f"{prefix}.{entry.name}", entry


def _known(word: str) -> tuple[str, ...]:
    own = tuple(key for key in leaves().get(word, ()) if word not in ("name", "folder_digest", "content_digest"))
    return KEYS.get(word) or own


def _preferring(key: str, found: Sequence[str]) -> tuple[str, ...]:
    """Keys of the group that was named come first; then those that every run has."""
    group = key.split(".")[0]
    usual = ("training", "lora", "seed", "task", "model", "placement")

    def order(candidate: str) -> tuple[bool, int]:
        own = candidate.split(".")[0]
        return own != group, usual.index(own) if own in usual else len(usual)

    return tuple(sorted(found, key=order)) if len(found) > 1 and all("." in one for one in found) else tuple(found)
