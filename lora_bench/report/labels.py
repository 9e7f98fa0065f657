"""A run in a few words: its method, rank, rate and seed, and what else its study varies, `lora r=8 lr 5e-4 s0`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lora_bench.report.load import Record, flat

GROUPS = ("model", "task", "method", "placement", "lora", "training", "processes")
"""Groups of the configuration that a label may name."""
BY_NAME = ("model", "task", "placement", "processes")
"""Groups whose choice has a name; it stands for the keys that follow from it."""
ALWAYS = ("method.name", "lora.r", "training.lr", "seed")
"""Have their own place in a label."""
FOLLOWING = ("method.default_lr", "placement.roles")
"""Follow from the choice of another key."""

Varied = Mapping[tuple[str | None, str], Sequence[str]]
"""(Study, method) -> dotted keys in which its runs differ."""


def varied_keys(records: Sequence[Record]) -> Varied:
    """Return what tells the runs of each study apart, beside what every label says."""
    groups: dict[tuple[str | None, str], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(_group(record), []).append(_flat(record))
    return {group: _differing(configs) for group, configs in groups.items()}


def run_label(record: Record, varied: Varied) -> str:
    """Return the label of a run; `varied` is that of all runs beside it."""
    config = _flat(record)
    extra = {key: config[key] for key in varied.get(_group(record), ()) if key in config}
    return label_text(
        str(config["method.name"]), r=config.get("lora.r"), lr=config["training.lr"], extra=extra, seed=record.seed
    )


def label_text(method: str, *, r: object, lr: float, extra: Mapping[str, Any], seed: int) -> str:
    """Return a label of these parts; a choice by name needs no key before it."""
    words = [method, *([f"r={r}"] if r is not None else []), f"lr {short_number(lr)}"]
    for key, value in extra.items():
        last = key.split(".")[-1]
        words.append(_text(value) if last == "name" or "." not in key else f"{last} {_text(value)}")
    return " ".join([*words, f"s{seed}"])


def short_number(value: float) -> str:
    """Return a number as people type rates: `5e-4`, `0.05`, `3`."""
    if value and abs(value) < 0.01:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.4g}"


def study_of(record: Record) -> str | None:
    """Return the study that began a run, or None."""
    name = (record.config.get("study") or {}).get("name")
    return str(name) if name else None


def _group(record: Record) -> tuple[str | None, str]:
    return study_of(record), str(record.config["method"]["name"])


def _flat(record: Record) -> dict[str, Any]:
    return flat({key: value for key, value in record.config.items() if key in GROUPS})


def _differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = [
        key
        for key in dict.fromkeys(key for config in configs for key in config)
        if key not in (*ALWAYS, *FOLLOWING) and len({json.dumps(config.get(key)) for config in configs}) > 1
    ]
    named = {key.split(".")[0] for key in keys if key.endswith(".name") and key.split(".")[0] in BY_NAME}
    return [key for key in keys if key.endswith(".name") or key.split(".")[0] not in named]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return short_number(value)
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
