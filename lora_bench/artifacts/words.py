"""From the words of a command line to runs, weights, shapes and dtypes; what is wrong with them is said here."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from lora_bench.errors import UsageError

if TYPE_CHECKING:
    from lora_bench.artifacts.checks import Part
    from lora_bench.artifacts.trained import TrainedRun
    from lora_bench.config.schema import Dtype


def open_one(text: str, arguments: argparse.Namespace) -> TrainedRun:
    """The run that a word names, after `--out` was looked at: what is quickly wrong is said first."""
    from lora_bench.artifacts.lookup import find_run
    from lora_bench.artifacts.trained import open_run

    if getattr(arguments, "out", None) is not None:
        from lora_bench.artifacts.folder import check_out

        check_out(arguments.out)
    return open_run(find_run(text, arguments.root))


def open_all(arguments: argparse.Namespace) -> list[TrainedRun]:
    """Every `RUN` of the command, each once."""
    runs = [open_one(text, arguments) for text in arguments.run_names]
    for index, trained in enumerate(runs):
        if trained.name in [other.name for other in runs[:index]]:
            raise UsageError(f"RUN: {trained.name} is named twice")
    return runs


def open_parts(arguments: argparse.Namespace) -> list[Part]:
    """Every `RUN:WEIGHT` of the command."""
    given = [_split_weight(text) for text in arguments.parts]
    runs = [(open_one(text, arguments), weight) for text, weight in given]
    from lora_bench.artifacts.checks import Part

    return [Part(trained, weight) for trained, weight in runs]


def _split_weight(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition(":")
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not name or not math.isfinite(weight):
        raise UsageError(f"RUN:WEIGHT: '{text}' does not end in a weight; write it as {name or text}:0.5")
    return name, weight


def read_shapes(arguments: argparse.Namespace) -> list[tuple[int, int]]:
    """Batch sizes with lengths in tokens: in pairs, or with `--grid` each with each."""
    batches, lengths = (_numbers(f"--{name}", getattr(arguments, name)) for name in ("batch", "length"))
    if arguments.grid or 1 in (len(batches), len(lengths)):
        return [(batch, length) for batch in batches for length in lengths]
    if len(batches) != len(lengths):
        raise UsageError(
            f"--batch, --length: {len(batches)} batch sizes and {len(lengths)} lengths; they are taken in pairs, as in "
            f"the paper's Table 1, so give as many of each, or --grid for every pair"
        )
    return list(zip(batches, lengths, strict=True))


def _numbers(option: str, text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    wrong = [word for word in words if not word.isdecimal() or int(word) < 1]
    if wrong:
        raise UsageError(
            f"{option}: '{wrong[0]}' is not a whole number above 0; write them with commas between, 1,16,32"
        )
    return [int(word) for word in words]


def check_rounds(arguments: argparse.Namespace) -> None:
    """Whether there are rounds enough for an interval."""
    from lora_bench.measure.latency import MIN_ROUNDS

    if arguments.rounds < MIN_ROUNDS:
        raise UsageError(f"--rounds: {arguments.rounds} is below {MIN_ROUNDS}, and fewer give no 95 % interval")


def read_dtype(arguments: argparse.Namespace) -> Dtype | None:
    """`--dtype`, or None where it is not given."""
    from lora_bench.config.schema import Dtype

    accepted = [dtype.value for dtype in Dtype]
    if arguments.dtype is not None and arguments.dtype not in accepted:
        raise UsageError(f"--dtype: no '{arguments.dtype}'; accepted: {', '.join(accepted)}")
    return Dtype(arguments.dtype) if arguments.dtype else None
