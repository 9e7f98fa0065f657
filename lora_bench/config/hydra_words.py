"""Hydra's own settings, which decide nothing here: each is refused with the key that does what was meant."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_bench.errors import Fault

SEARCHPATH = "hydra.searchpath"
"""What `--config-dir` becomes: the one setting of Hydra's that is honoured."""
_FILE = "file://"
WRITES = "everything is written below paths.root, in a folder named by the run; set paths.root=DIR"
INSTEAD: Mapping[str, str] = {
    "hydra.run.dir": WRITES,
    "hydra.run": WRITES,
    "hydra.sweep.dir": WRITES,
    "hydra.sweep.subdir": WRITES,
    "hydra.sweep": WRITES,
    "hydra.output_subdir": WRITES,
    "hydra.job.chdir": f"a run stays in the folder that it was started in; {WRITES}",
    "hydra/sweeper": "sweeps are always carried out by lora_bench's own; study.sampler=tpe, random, ... says how "
    "points are drawn, study.n_trials how many",
    "hydra.sweeper": "sweeps are carried out by lora_bench's own; the keys of `study` say how",
    "hydra/launcher": "executor=local, slurm or ray says where runs are started, study.n_jobs how many at a time",
    "hydra.launcher": "the keys of `executor` say how runs are started, executor=slurm or ray where",
    "hydra.mode": "-m makes a sweep",
    "hydra.verbose": "what a run says is in its run.log below paths.root",
    "hydra/job_logging": "what a run says is in its run.log below paths.root",
    "hydra/hydra_logging": "what a run says is in its run.log below paths.root",
}
"""A setting, or the beginning of it -> what to do instead."""


def hydra_fault(key: str) -> Fault:
    """Return what to say of a setting of Hydra's, such as `hydra.run.dir` or `hydra/launcher`."""
    parts = key.split(".")
    beginnings = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    instead = next((INSTEAD[one] for one in beginnings if one in INSTEAD), "leave it out; `--help` lists what is read")
    return Fault(key, f"Hydra's own settings are not read here: {instead}")


def searchpath_word(folder: Path) -> str:
    """Return the override that adds a folder of choices to those in `conf/`."""
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return f"{SEARCHPATH}=['{_FILE}{quoted}']"


def searchpath_folders(value: Any) -> list[Path] | None:
    """Return the folders of a value of Hydra's search path; None if it is no list of `file://` folders."""
    entries = value if isinstance(value, list) else [value]
    paths = [str(entry) for entry in entries]
    if not all(path.startswith(_FILE) for path in paths):
        return None
    return [Path(path.removeprefix(_FILE)) for path in paths]
