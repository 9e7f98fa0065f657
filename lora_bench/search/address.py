"""Runs by what a study knows them as: `best:STUDY`, `best:STUDY:METHOD`, `STUDY:TRIAL`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_bench.errors import UsageError, suggest
from lora_bench.rundir import RunDir, find_run_dirs
from lora_bench.search.overview import Overview, TrialRow, read_overview, trial_name
from lora_bench.search.question import BASELINE
from lora_bench.search.space import words_of
from lora_bench.search.studydir import StudyDir, find_study_dirs

BEST = "best"
HELP = "best:STUDY, STUDY:TRIAL"


@dataclass(frozen=True)
class Found:
    """The run that an address names."""

    run: RunDir
    text: str
    """Which trial that is, in a line."""


def find_by_address(text: str, root: Path) -> Found | None:
    """Return the run that an address names; None for text that is a folder or has no colon.

    Of a trial with several seeds it is the run of the first seed that has finished: no seed is picked by its score.

    Raises:
        UsageError: If there is no such study or trial, or it has no finished run.
        StudyError: If the study's record cannot be read.
    """
    if ":" not in text or (Path(text).expanduser() / "config.yaml").is_file():
        return None
    parts = text.split(":")
    if parts[0] == BEST and len(parts) in (2, 3):
        overview = _read(parts[1], text, root)
        row = _best(overview, parts[2] if len(parts) == 3 else None, text)
    elif len(parts) == 2:
        overview = _read(parts[0], text, root)
        row = _trial(overview, parts[1], text)
    else:
        raise UsageError(f"RUN: '{text}' is not a run; accepted: the name of a run, {HELP}")
    run = _finished_run(overview, row, text)
    metric = overview.objectives[0].metric
    value = f", {metric} {row.metrics[metric]:.4g}" if metric in row.metrics else ""
    seeds = f" (mean of {len(row.line.runs)} seeds)" if value and len(row.line.runs) > 1 else ""
    words = " ".join(words_of(row.line.point))
    return Found(
        run,
        f"{text}: trial {trial_name(row)} of {overview.name}{words and f', {words}'}{value}{seeds}: {run.path.name}",
    )


def resolve_run(text: str, root: Path) -> str:
    """Return the folder of the run that an address names, and say on stderr which that is; other text as it is."""
    found = find_by_address(text, root)
    if found is None:
        return text
    print(found.text, file=sys.stderr)
    return str(found.run.path)


def resolve_part(text: str, root: Path) -> str:
    """Return the same for `RUN:WEIGHT`.

    Raises:
        UsageError: If an address stands without a weight.
    """
    name, _, weight = text.rpartition(":")
    if not _is_number(weight):
        if name:
            raise UsageError(f"RUN:WEIGHT: '{text}' does not end in a weight; write it as {text}:0.5")
        return text
    if ":" not in name:
        is_trial = study_named(name, root) is not None and not any(_begun(name, root))
        if is_trial:
            raise UsageError(f"RUN:WEIGHT: '{text}' is a trial without a weight; write it as {text}:0.5")
        return text
    return f"{resolve_run(name, root)}:{weight}"


def _begun(name: str, root: Path) -> Iterator[bool]:
    return (run.path.name.startswith(name) for run in find_run_dirs(root))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def study_named(name: str, root: Path) -> StudyDir | None:
    """Return the study of this name below `root`, or None."""
    return _studies(root).get(name)


def _read(name: str, text: str, root: Path) -> Overview:
    known = _studies(root)
    if name not in known:
        names = ", ".join(known) or "none"
        raise UsageError(
            f"RUN: '{text}': no study '{name}' in {root.absolute()}{suggest(name, known)}; studies: {names}"
        )
    return read_overview(known[name])


def _studies(root: Path) -> Mapping[str, StudyDir]:
    return {directory.path.name: directory for directory in find_study_dirs(root.absolute())}


def _best(overview: Overview, kind: str | None, text: str) -> TrialRow:
    if not overview.rows:
        raise UsageError(f"RUN: '{text}': {overview.name} has no trial yet")
    if kind is None:
        best = overview.best(overview.arms[0])
        rows: Sequence[TrialRow] = [row for row in overview.rows if row.line.arm == overview.arms[0]]
    else:
        kinds = list(dict.fromkeys(row.kind for row in overview.rows))
        if kind not in kinds:
            raise UsageError(
                f"RUN: '{text}': no method '{kind}'{suggest(kind, kinds)}; {overview.name} has {', '.join(kinds)}"
            )
        best = overview.best_of_kind(kind)
        rows = [row for row in overview.rows if row.kind == kind]
    if best is None:
        raise UsageError(
            f"RUN: '{text}': none of its {len(rows)} trials has finished with {overview.objectives[0].metric} "
            f"({_states(rows)}); see `lora-bench study {overview.name}`"
        )
    return best


def _trial(overview: Overview, name: str, text: str) -> TrialRow:
    for row in overview.rows:
        if name == trial_name(row):
            return row
    names = [trial_name(row) for row in overview.rows]
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    if not re.fullmatch(rf"(?:{BASELINE}-)?\d+", name):
        raise UsageError(f"RUN: '{text}': '{name}' is not a trial; a trial is a number, or {BASELINE}-NUMBER")
    raise UsageError(f"RUN: '{text}': {overview.name} has no trial {name}; it has {shown or 'none yet'}")


def _finished_run(overview: Overview, row: TrialRow, text: str) -> RunDir:
    for run in (RunDir(overview.runs / name) for name in row.line.runs):
        result = run.read_result()
        if result is not None and result.status == "finished":
            return run
    why = row.line.error or f"it is {row.status}"
    raise UsageError(f"RUN: '{text}': trial {trial_name(row)} of {overview.name} has no finished run ({why})")


def _states(rows: Sequence[TrialRow]) -> str:
    states = dict.fromkeys(row.status for row in rows)
    return ", ".join(f"{sum(row.status == state for row in rows)} {state}" for state in states)
