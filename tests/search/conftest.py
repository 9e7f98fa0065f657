"""Studies whose runs pretend to train, in processes of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.studies import PretendedStudy

WORDS = ("model=tiny", "task.num_train=64", "task.num_validation=32", "task.num_eval=32", "executor.threads_per_run=1")


@pytest.fixture
def pretended_study(tmp_path: Path, cache: str) -> Callable[..., str]:
    """Carries a study with these words out, in `tmp_path/root`; returns what it said."""
    words = [*WORDS, "training.log_every=5", "tracking=none", f"paths.cache={cache}"]
    return PretendedStudy(tmp_path / "root", words).finish


@pytest.fixture
def study(tmp_path: Path, cache: str) -> PretendedStudy:
    """A study of short runs that checkpoint and evaluate often, to be killed."""
    words = ["training.max_steps=20", "training.eval_every=5", "training.checkpoint_every=5", "training.log_every=1"]
    return PretendedStudy(tmp_path / "root", [*WORDS, *words, "tracking=none", f"paths.cache={cache}"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes that the test may fill."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here ({mounted.stderr.decode().strip()}); root can")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
