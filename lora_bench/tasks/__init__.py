"""The tasks, by the name in `conf/task/`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lora_bench.config.schema import TaskConfig
from lora_bench.errors import ConfigError, Fault, suggest
from lora_bench.tasks import arithmetic, bbc_headline, bbc_topic, files, tweet_sentiment
from lora_bench.tasks.base import Example, TaskData, TaskError
from lora_bench.tasks.notes import data_notes

__all__ = ["TASKS", "Example", "TaskData", "TaskError", "check_task", "data_notes", "load_task"]

TASKS: dict[str, Callable[[Any], TaskData]] = {
    "arithmetic": arithmetic.load,
    "bbc_headline": bbc_headline.load,
    "bbc_topic": bbc_topic.load,
    "files": files.load,
    "tweet_sentiment": tweet_sentiment.load,
}


def load_task(config: TaskConfig) -> TaskData:
    """Return the splits of the task that the configuration names.

    Raises:
        ConfigError: If no task has that name.
        TaskError: If its data cannot be used as asked; a DataError with every fault found.
    """
    if config.name not in TASKS:
        problem = f"unknown task '{config.name}'{suggest(config.name, TASKS)}; tasks: {', '.join(TASKS)}"
        raise ConfigError([Fault("task", problem)])
    data = TASKS[config.name](config)
    return replace(data, notes=(*data.notes, *data_notes(data)))


def check_task(config: TaskConfig) -> list[Fault]:
    """What is wrong with a task's data, by loading it: no weight, no tokenizer, no torch."""
    try:
        load_task(config)
    except (ConfigError, TaskError) as err:
        return list(err.faults)
    return []
