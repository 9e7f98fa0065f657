"""From what a user writes for a run to its directory."""

from __future__ import annotations

import shlex
from pathlib import Path

from lora_bench.errors import UsageError, suggest
from lora_bench.rundir import RunDir, find_run_dirs

MAX_SHOWN = 5


def find_run(text: str, root: Path) -> RunDir:
    """The run of this name, of the only name that begins so, or in this folder.

    Raises:
        UsageError: If there is none, or more than one.
    """
    folder = Path(text).expanduser()
    if (folder / "config.yaml").is_file():
        return RunDir(folder.resolve())
    runs = {run.path.name: run for run in find_run_dirs(root)}
    if text in runs:
        return runs[text]
    begun = [name for name in runs if name.startswith(text)]
    if len(begun) == 1:
        return runs[begun[0]]
    raise UsageError(_explain(text, folder, begun=begun, names=list(runs), root=root))


def _explain(text: str, folder: Path, *, begun: list[str], names: list[str], root: Path) -> str:
    if begun and text:
        return f"RUN: '{text}' is the beginning of {len(begun)} runs; write more of one: {_some(begun)}"
    if (folder / "adapter_config.json").is_file():
        return (
            f"RUN: {text} is an adapter without the record of a run; give the run itself, or lora-bench import "
            f"{shlex.quote(text)} first if lora-bench export wrote it"
        )
    if folder.is_dir():
        return f"RUN: {text} is no run directory (it has no config.yaml); runs are listed by lora-bench runs"
    if not names:
        return f"RUN: no run '{text}', and {root.absolute()} holds no run; --root names the folder of the runs"
    return f"RUN: no run '{text}' in {root.absolute()}{suggest(text, names)}; runs: {_some(names)}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more
