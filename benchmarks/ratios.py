"""Ratios of wall times between a study of ours and loops over a script, and the parts of their differences."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import Any

from wall_parts import PARTS, Makespan

AIM = 1 / 3
"""A study's wall time is to be at most this part of the loop's."""
USUAL_STEPS = 300
"""Of a run of ours, by default."""
PADDED_PARTS = ("steps", "evaluation")
PAIRS = (
    ("study_bf16", "script_fp32"),
    ("study_fp32", "script_fp32"),
    ("study_bf16", "script_bf16"),
    ("study_bf16", "script_fp32_longest"),
    ("study_fp32", "script_fp32_longest"),
    ("study_bf16", "script_bf16_longest"),
)
"""Ours and theirs: default against default, then the same dtype on both sides; then without the script's padding."""
CONTESTANTS = tuple(dict.fromkeys(itertools.chain(*PAIRS)))
NOTES = (
    "study_bf16 / script_fp32 compares what each side does unless told otherwise: training.dtype is bf16 by default, "
    "and the Trainer trains in fp32 unless bf16=True",
    "the script pads to max_length, the default of transformers' run_glue.py (--pad_to_max_length True); `_longest` is "
    "DataCollatorWithPadding, in random order; a study always sorts stretches of 32 batches, and what it evaluates, by "
    "length",
    "the script runs one process after the other on all threads; a study runs `jobs` at a time and shares the threads",
    "HF_HUB_OFFLINE=1 on both sides: neither waits for a network",
    "on disk and warm before the first turn: pages of weights and libraries, tokens (our cache, that of datasets)",
    f"at_{USUAL_STEPS}_steps is an estimate: the part `steps` in proportion, the others as they are",
)


def summarise(makespans: Sequence[Makespan], steps: int) -> dict[str, Any]:
    """Wall times, parts and accuracies by contestant, and the ratios of the pairs that ran."""
    rounds: dict[str, list[Makespan]] = {}
    for one in makespans:
        rounds.setdefault(one.contestant, []).append(one)
    contestants = {name: summarise_contestant(members) for name, members in rounds.items()}
    ratios = {
        f"{ours} / {theirs}": summarise_pair(rounds[ours], rounds[theirs], steps)
        for ours, theirs in PAIRS
        if ours in rounds and theirs in rounds
    }
    padding = {
        name: {part: mean_part(members, part) - mean_part(rounds[f"{name}_longest"], part) for part in PADDED_PARTS}
        for name, members in rounds.items()
        if f"{name}_longest" in rounds
    }
    return {"contestants": contestants, "ratios": ratios, "padding_to_max_length_s": padding}


def summarise_contestant(members: Sequence[Makespan]) -> dict[str, Any]:
    """One contestant over its rounds."""
    walls_s, accuracies = [one.wall_s for one in members], [run.accuracy for run in members[0].runs]
    return {
        "wall_s": walls_s, "wall_median_s": statistics.median(walls_s),
        "parts_mean_s": {part: mean_part(members, part) for part in PARTS},
        "accuracy_mean": statistics.mean(accuracies), "accuracy": accuracies,
    }  # fmt: skip


def summarise_pair(ours: Sequence[Makespan], theirs: Sequence[Makespan], steps: int) -> dict[str, Any]:
    """The ratio of two contestants, round by round, and the parts of their difference."""
    by_round = [a.wall_s / b.wall_s for a, b in zip(ours, theirs, strict=False)]
    longer = [statistics.mean(one.wall_s for one in side) for side in (ours, theirs)]
    for index, side in enumerate((ours, theirs)):
        longer[index] += mean_part(side, "steps") * (USUAL_STEPS / steps - 1)
    return {
        "median": statistics.median(by_round), "min": min(by_round), "max": max(by_round), "aim": AIM,
        f"at_{USUAL_STEPS}_steps": longer[0] / longer[1],
        "difference_s": {part: mean_part(theirs, part) - mean_part(ours, part) for part in PARTS},
        "accuracy_difference": statistics.mean(run.accuracy for run in ours[0].runs)
        - statistics.mean(run.accuracy for run in theirs[0].runs),
    }  # fmt: skip


def mean_part(members: Sequence[Makespan], part: str) -> float:
    """Seconds of a part, mean over rounds."""
    return statistics.mean(one.parts_s[part] for one in members)


def print_summary(summary: dict[str, Any]) -> None:
    """Three tables: contestants with their parts, parts of each difference, ratios with their aim."""
    header = "".join(f"{part:>11}" for part in PARTS)
    print(f"\nseconds{'':15}{'wall':>9}{header}  accuracy: mean, range of the runs")
    for name, row in summary["contestants"].items():
        parts = "".join(f"{value:11.1f}" for value in row["parts_mean_s"].values())
        print(
            f"{name:22}{row['wall_median_s']:9.1f}{parts}  {row['accuracy_mean']:.3f}, "
            f"{min(row['accuracy']):.3f} to {max(row['accuracy']):.3f}"
        )
    print(f"\n{'what is saved, s':36}{header}")
    for name, row in summary["ratios"].items():
        print(f"{name:36}" + "".join(f"{value:11.1f}" for value in row["difference_s"].values()))
    for name, parts in summary["padding_to_max_length_s"].items():
        print(
            f"of which padding to max_length in {name}: {parts['steps']:.1f} (steps), {parts['evaluation']:.1f} (eval)"
        )
    at_usual = f"at_{USUAL_STEPS}_steps"
    print(f"\n{'wall time':36}{'ratio':>7}{'min':>7}{'max':>7}{'aim':>7}{at_usual:>14}  accuracy difference")
    for name, row in summary["ratios"].items():
        values = "".join(f"{row[key]:7.3f}" for key in ("median", "min", "max", "aim"))
        print(f"{name:36}{values}{row[at_usual]:14.3f}  {row['accuracy_difference']:+.3f}")
    print("", *NOTES, sep="\n")
