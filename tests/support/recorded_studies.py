"""Folders of studies as a controller leaves them, over synthetic runs: what commands about studies read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from support.synthetic_runs import finished_run, start_run, synthetic_config

from lora_bench import rundir
from lora_bench.rundir import RunDir
from lora_bench.search.studydir import StudyDir, TrialLine

RATES = ("0.0005", "0.002")
RANKS = (1, 8)


def rank_study(
    root: Path,
    *,
    name: str = "ranks",
    objectives: Sequence[str] = ("maximize eval/accuracy",),
    text: str = "Which rank does LoRA need?",
    num_finished: int = 6,
) -> StudyDir:
    """Two ranks at two rates, and full fine-tuning at two; the first `num_finished` have ended, the next has begun."""
    points: list[tuple[str, dict[str, Any]]] = []
    points += [("own", {"lora.r": str(r), "training.lr": lr}) for r in RANKS for lr in RATES]
    points += [("baseline", {"training.lr": lr}) for lr in ("0.0001", "0.0003")]
    lines = []
    for index, (arm, point) in enumerate(points):
        is_own, r = arm == "own", int(point.get("lora.r", 8))
        method = "lora" if is_own else "full"
        config = synthetic_config(method=method, r=r, lr=float(point["training.lr"]), study=name)
        run = RunDir(root / "runs" / f"run-{index}")
        if index < num_finished:
            finished_run(root, config, name=run.path.name, accuracy=0.6 + 0.02 * index)
        elif index == num_finished:
            start_run(root, config, name=run.path.name)
        words = [*([] if is_own else ["method=full"]), *(f"{key}={value}" for key, value in point.items())]
        lines.append(TrialLine(arm, index if is_own else index - 4, point, words, [run.path.name]))
    directory = StudyDir(root / "studies" / name)
    rundir.write_text(directory.question, yaml.safe_dump(_question(objectives, text)))
    directory.record_trials(lines)
    return directory


def _question(objectives: Sequence[str], text: str) -> dict[str, Any]:
    arms = {
        "own": {"base": [], "space": {"lora.r": "1, 8", "training.lr": ", ".join(RATES)}},
        "baseline": {"base": ["method=full"], "space": {"training.lr": "0.0001, 0.0003"}},
    }
    question = {"arms": arms, "seeds": [0], "objectives": list(objectives), "constraints": [], "sampler": "grid"}
    return {"question": question, "text": text, "command": ["lora.r=1,8"], "n_trials": 20, "id": "an-id"}
