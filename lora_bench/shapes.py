"""What the files of a run hold, as far as their readers compute with it: each answers with what is wrong, or None."""

from __future__ import annotations

import re
from typing import Any

MAX_NAME_CHARS = 80
"""Of a model, a task or a study; a run's name is made of three of them, and a file system takes 255 bytes."""
_NAME = re.compile(r"\w[\w.+@ ,-]*")

NAMED_GROUPS = ("model", "task", "method")
"""Groups of a configuration that every run has, with a name."""
OTHER_GROUPS = ("training", "lora", "placement", "processes", "executor", "tracking", "paths", "study")
CONFIG_TYPES: dict[str, type | tuple[type, ...]] = {
    "seed": int,
    "training.lr": (int, float),
    "training.max_steps": int,
    "training.batch_size": int,
    "lora.r": int,
    "lora.alpha": (int, float),
    "placement.name": str,
    "processes.name": str,
    "processes.count": int,
    "study.name": str,
}
"""Keys that readers compute with -> what their values are, where they are set."""
ALWAYS_SET = ("seed", "training.lr")


def name_problem(name: str) -> str | None:
    """Of a name that becomes a folder, a tag and a cell of a table: nothing that a shell, HTML or CSV would act on."""
    if len(name) > MAX_NAME_CHARS:
        return f"'{name[:20]}…' has {len(name)} characters; use {MAX_NAME_CHARS} at most"
    if not _NAME.fullmatch(name):
        return f"{name!r} cannot name a folder; use letters, digits, '-', '_' and '.'"
    return None


def is_folder_name(name: str) -> bool:
    """Whether it names an entry of a folder, and neither the folder itself nor anything outside of it."""
    is_short = 0 < len(name.encode("utf-8", "replace")) <= 255
    return is_short and name.isprintable() and not name.startswith(".") and not set(name) & set("/\\")


def config_problem(data: dict[str, Any]) -> str | None:
    """Of a `config.yaml`."""
    for group in NAMED_GROUPS:
        if not isinstance(data.get(group), dict) or not isinstance(data[group].get("name"), str):
            return f"it has no {group}.name"
    for group in OTHER_GROUPS:
        if not isinstance(data.get(group) or {}, dict):
            return f"{group} is no mapping"
    for key in ALWAYS_SET:
        if _value_at(data, key) is None:
            return f"it has no {key}"
    for key, types in CONFIG_TYPES.items():
        value = _value_at(data, key)
        if value is not None and (not isinstance(value, types) or isinstance(value, bool)):
            return f"{key}: {str(value)[:40]!r} is of another type"
    return None


def status_problem(key: str, value: Any) -> str | None:
    """Of one entry of a `status.json`."""
    if key in ("step", "steps", "pid"):
        return None if value is None or type(value) is int else f"{key} is not a whole number"
    if key == "updated_at":
        return None if is_number(value) and 0 <= value < 1e11 else "updated_at is no time"
    if key == "metrics":
        return None if _are_numbers(value) else "metrics are no numbers"
    return None


def metrics_problem(line: dict[str, Any]) -> str | None:
    """Of a line of `metrics.jsonl`."""
    if type(line.get("step")) is not int or type(line.get("timestamp_ms")) is not int:
        return "has no step and timestamp_ms"
    return None if _are_numbers(line.get("metrics")) else "has no metrics that are numbers"


def items_problem(line: dict[str, Any]) -> str | None:
    """Of a line of `items.jsonl`."""
    values = line.get("values")
    is_whole = type(line.get("step")) is int and isinstance(values, list) and all(map(is_number, values))
    return None if is_whole else "has no step and values"


def prediction_problem(line: dict[str, Any]) -> str | None:
    """Of a line of `predictions.jsonl`; which scores it holds depends on the task."""
    if not isinstance(line.get("item_id"), str | int):
        return "has no item_id"
    wrong = [key for key in ("correct", "nll", "num_tokens") if not (line.get(key) is None or is_real(line[key]))]
    return f"{wrong[0]} is not a number" if wrong else None


def is_number(value: Any) -> bool:
    """Whether it is a number; `True` is none."""
    return type(value) in (int, float)


def is_real(value: Any) -> bool:
    """Whether it is a number, or true or false."""
    return isinstance(value, int | float)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(one is None or is_number(one) for one in value.values())


def _value_at(data: dict[str, Any], key: str) -> Any:
    group, _, name = key.partition(".")
    return (data.get(group) or {}).get(name) if name else data.get(key)
