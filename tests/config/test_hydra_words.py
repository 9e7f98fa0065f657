"""Oracle: each setting of Hydra's that used to change nothing, and the key of ours that does what was meant."""

from __future__ import annotations

import pytest

from lora_bench.config.hydra_words import hydra_fault
from lora_bench.config.overrides import check_overrides


@pytest.mark.parametrize(
    ("word", "instead"),
    [
        ("hydra.run.dir=x", "set paths.root=DIR"),
        ("hydra.sweep.dir=x", "set paths.root=DIR"),
        ("hydra/sweeper=basic", "study.sampler=tpe"),
        ("hydra/launcher=submitit_slurm", "executor=local, slurm or ray"),
        ("hydra.launcher.n_jobs=2", "the keys of `executor`"),
        ("hydra.job.chdir=true", "a run stays in the folder"),
        ("hydra.mode=MULTIRUN", "-m makes a sweep"),
        ("hydra.anything=1", "leave it out"),
    ],
)
@pytest.mark.parametrize("is_sweep", [True, False])
def test_hydras_own_settings_are_refused(word, instead, is_sweep):
    (fault,) = check_overrides([word], is_sweep=is_sweep)
    assert fault == hydra_fault(word.split("=")[0])
    assert "Hydra's own settings are not read here" in fault.problem
    assert instead in fault.problem
